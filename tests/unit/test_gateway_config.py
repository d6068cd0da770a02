import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import GIB, ROWS, ConfigError, profile_of, resolve
from gateway.values import parse_port, parse_seconds, parse_size


def options(tmp_path: Path, **given_options: object) -> dict[str, object]:
    return {"data_dir": str(tmp_path), **given_options}


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    config = resolve(options(tmp_path), {})
    assert (config.s3_port, config.ipfs_port, config.ipfs_api_port) == (9000, 8080, 5001)
    assert (config.edge_port, config.console_port, config.host) == (8081, 9001, "127.0.0.1")
    assert (config.miners, config.profile, config.background) == (6, "auto", "gentle")
    assert (config.inline_max, config.repair_grace, config.s3_etag) == (16384, 600.0, "md5")
    assert config.s3_sigv2
    assert config.ipfs_offline
    assert not config.secure


def test_the_strongest_word_wins(tmp_path: Path) -> None:
    (tmp_path / "cumulus.toml").write_text("[s3]\nport = 1\nregion = 'file'\n[ipfs]\nport = 3\n")
    environ = {"CUMULUS_S3_PORT": "2", "CUMULUS_IPFS_PORT": "4"}
    config = resolve(options(tmp_path, s3_port="5"), environ)
    assert (config.s3_port, config.ipfs_port, config.s3_region) == (5, 4, "file")


def test_data_dir_comes_from_the_environment_unless_given(tmp_path: Path) -> None:
    environ = {"CUMULUS_DATA_DIR": str(tmp_path / "env")}
    assert resolve({}, environ).data_dir == tmp_path / "env"
    assert resolve(options(tmp_path), environ).data_dir == tmp_path


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("[s3]\nprot = 1\n", ("unknown setting s3.prot", "did you mean s3.port")),
        ("miner = 3\n", ("unknown setting miner", "did you mean miners")),
        ("[s3\n", ("not valid TOML",)),
        ("[s3]\nport = 99999\n", ("--s3-port", "99999")),
        ("[s3]\nport = true\n", ("--s3-port", "whole number")),
        ("[s3]\netag = 'sha'\n", ("[s3] etag", "md5, crc64nvme")),
        ("s3 = 1\n", ("unknown setting s3",)),
        ("[ipfs.dnslinks]\na = 1\n", ("dnslinks",)),
        ("[ipfs.dnslinks]\n'x.test' = 'bafy'\n", ("dnslinks", "x.test")),
        ("[ipfs]\ndns_resolver = 'http://dns.test'\n", ("dns_resolver",)),
        ("[ipfs]\ndns_resolver = 'system'\n", ("dns_resolver",)),
    ],
)
def test_a_wrong_file_is_refused_with_one_line_that_names_the_setting(
    tmp_path: Path, text: str, needles: tuple[str, ...]
) -> None:
    (tmp_path / "cumulus.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(options(tmp_path), {})
    line = str(caught.value)
    assert "\n" not in line.replace(repr(line), "")
    for needle in needles:
        assert needle in line


def test_tables_and_lists_come_from_file_and_environment(tmp_path: Path) -> None:
    (tmp_path / "cumulus.toml").write_text(
        "[ipfs]\nsubdomain_hosts = ['a.test', 'b.test']\n"
        "[ipfs.dnslinks]\n'x.test' = '/ipfs/bafy'\n[repair]\ngrace = '2min'\n"
        "[scrub]\nrate = '5MiB'\ncycle = '7d'\n"
    )
    config = resolve(options(tmp_path), {"CUMULUS_S3_DOMAIN": "one,two"})
    assert config.ipfs_subdomain_hosts == ("a.test", "b.test")
    assert config.ipfs_dnslinks == {"x.test": "/ipfs/bafy"}
    assert config.s3_domain == ("one", "two")
    assert config.repair_grace == 120.0
    assert (config.scrub_rate, config.scrub_cycle) == (5 << 20, 7 * 86400)


@pytest.mark.parametrize(
    ("given_options", "needle"),
    [
        ({"s3_port": "8080"}, "taken by --s3-port"),
        ({"tls_cert": "/x"}, "go together"),
        ({"tls": "magic"}, "--tls"),
        ({"miners": "2"}, "--unsafe"),
        ({"miners": "5", "profile": "small"}, "needs 6"),
        ({"config": "/nowhere/c.toml"}, "no such file"),
        ({"pledge": "lots"}, "--pledge"),
        ({"disk": ["/a", "/a"]}, "named twice"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    tmp_path: Path, given_options: dict[str, object], needle: str
) -> None:
    with pytest.raises(ConfigError, match=needle.replace("-", r"\-")):
        resolve(options(tmp_path, **given_options), {})


@pytest.mark.parametrize(
    ("miners", "unsafe", "profile"),
    [("6", None, "small"), ("3", None, "mirror"), ("5", None, "mirror"), ("1", True, "mirror")],
)
def test_the_automatic_profile_follows_the_number_of_miners(
    tmp_path: Path, miners: str, unsafe: bool | None, profile: str
) -> None:
    assert profile_of(resolve(options(tmp_path, miners=miners, unsafe=unsafe), {})) == profile


def test_sizes_and_durations() -> None:
    assert parse_size("64GiB") == 64 * GIB
    assert parse_size("500M") == 500 * 1024**2
    assert parse_size(4096) == 4096
    assert parse_seconds("1.5h") == 5400
    assert parse_seconds(600) == 600
    assert parse_port("0") == 0


@settings(max_examples=100)
@given(st.sampled_from(sorted(ROWS)), st.one_of(st.text(max_size=40), st.integers(), st.booleans()))
def test_any_value_is_parsed_or_refused_with_a_value_error(name: str, raw: object) -> None:
    with contextlib.suppress(ValueError):  # anything else fails the test
        ROWS[name].metadata["parse"](raw)


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("c")
    (folder / "cumulus.toml").write_text(text, "utf-8", "surrogatepass")
    with contextlib.suppress(ConfigError):  # anything else fails the test
        resolve({"data_dir": str(folder)}, {})
