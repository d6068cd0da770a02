"""The cumulus command: exit codes, one-line errors, help with examples."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.clock import SystemClock
from gateway import cli
from gateway.commands.failures import Failed, WrongUse
from gateway.commands.object import _inside
from gateway.commands.s3 import parse_url
from gateway.commands.session import size_text, table
from gateway.doctor import Level, examine


def parsers_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers_of(inner)


@pytest.mark.parametrize("group", sorted(cli.GROUPS))
def test_every_command_has_help_with_an_example(group: str) -> None:
    parser = cli.parser_for([group])
    subparsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for inner in parsers_of(subparsers.choices[group]):
        text = inner.format_help()
        assert "example: cumulus " in text, inner.prog
        if "ACTION" not in text and group not in ("up", "gateway"):
            assert "--json" in text, inner.prog


@pytest.mark.parametrize("words", ["chain", "chain id", "chain transfer", "miner", "edge"])
def test_every_node_has_help_with_an_example(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*words.split(), "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "example:" in said
    assert f"cumulus {words} " in said


@pytest.mark.parametrize(
    ("words", "code", "needle"),
    [
        (["nonsense"], 2, "invalid choice"),
        (["bucket", "create"], 2, "required"),
        (["status"], 1, "start one with 'cumulus up'"),
        (["up", "--miners", "x"], 2, "--miners"),
        (["up", "--s3-port", "70000"], 2, "--s3-port"),
        (["up", "--join", "x"], 2, "unrecognized"),
        (["gateway"], 2, "--join ID@HOST:PORT"),
        (["gateway", "--join", "ledger.example:4700", "--s3-port", "0"], 2, "whose address"),
        (["gateway", "--join", "no address"], 2, "HOST:PORT"),
        (["gateway", "--join", "h:1", "--listen", "tcp://0.0.0.0:1"], 2, "--advertise"),
        (["gateway", "--join", "h:1", "--edge", "h:2"], 2, "--edge"),
        (["edge", "--origin", "h:1"], 2, "ID@HOST:PORT"),
        (["market", "lease", "--size", "1"], 2, "whole MiB"),
        (["market", "lease", "--size", "1GiB", "--months", "999"], 2, "--months"),
        (["chain", "--listen", "tcp://0.0.0.0:1"], 2, "--advertise"),
        (["chain", "--operator", "zz"], 2, "hexadecimal"),
        (["chain", "transfer", "zz", "1"], 2, "TO AMOUNT"),
        (["chain", "transfer", "00" * 32, "1"], 2, "--join ID@HOST:PORT"),
        (["miner", "--listen", "tcp://0.0.0.0:1"], 2, "--advertise"),
        (["object", "cp", "a", "b"], 2, "s3://"),
        (["object", "rm", "s3://bucket"], 2, "--recursive"),
        (["object", "ls", "bucket"], 2, "s3://BUCKET/KEY"),
        (["market", "bid", "--price", "0.000000001", "--size", "1GiB"], 2, "eight decimals"),
        (["market", "bid", "--price", "nan", "--size", "1GiB"], 2, "--price"),
        (["market", "bid", "--price", "1", "--size", "1"], 2, "whole MiB"),
        (["object", "certificate", "s3://b/k"], 2, "--verify FILE"),
        (["object", "certificate", "--verify", "/nowhere"], 1, "No such file"),
        (["account", "create", "x", "--access-key", "k"], 2, "key"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    code: int,
    needle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CUMULUS_DATA_DIR", str(tmp_path / "none"))
    try:
        found = cli.main(words)
    except SystemExit as end:
        found = int(end.code or 0)
    said = capsys.readouterr().err
    assert found == code
    assert needle in said
    assert len(said.strip().splitlines()) == 1


def test_no_command_prints_help_and_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_urls() -> None:
    assert parse_url("s3://b/k/with/slashes") == ("b", "k/with/slashes")
    assert parse_url("s3://b") == ("b", "")
    for wrong in ("s3://", "http://b/k", "b/k", ""):
        with pytest.raises(WrongUse):
            parse_url(wrong)


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x", "a//b", "a/./b", "a\0b"])
def test_a_downloaded_key_never_leaves_its_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(Failed, match="no path"):
        _inside(tmp_path, key)


def test_a_plain_key_becomes_a_path(tmp_path: Path) -> None:
    assert _inside(tmp_path, "a/b c") == tmp_path / "a" / "b c"


def test_tables_and_sizes() -> None:
    assert table(("A", "BB"), [("xxx", 1)]) == "A    BB\nxxx  1"
    assert [size_text(n) for n in (0, 1023, 1024, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 GiB",
    ]


def test_doctor_says_in_words_what_is_wrong(tmp_path: Path) -> None:
    class Past(SystemClock):
        def now_ns(self) -> int:
            return 0

    found = {f.check: f for f in examine(tmp_path / "none", Past(), lambda _: {})}
    assert found["data"].level is Level.FAILURE
    assert "cumulus up" in found["data"].text
    assert found["clock"].level is Level.FAILURE
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = ann\naws_secret_access_key = secret123\n"
    )
    (tmp_path / "credentials").chmod(0o644)
    for name in ("m1", "m2"):
        (tmp_path / "miners" / name).mkdir(parents=True)
    found = {f.check: f for f in examine(tmp_path, SystemClock(), lambda _: {})}
    assert "chmod 0600" in found["credentials"].text
    assert "one failure domain" in found["domains"].text
    assert "never backed up" in found["backup"].text
    assert found["network"].level is Level.FAILURE


def test_doctor_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json", "--data-dir", str(tmp_path)]) == 1
    checks = {finding["check"] for finding in json.loads(capsys.readouterr().out)}
    assert {"data", "disk", "clock", "credentials", "network"} <= checks
