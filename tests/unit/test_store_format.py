"""The FORMAT file and the directory lock."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.format import (
    DirectoryLocked,
    NewerFormat,
    StoreError,
    WrongStore,
    lock_directory,
    open_store,
    write_durably,
    write_mark,
)


def version(directory: Path) -> int:
    found = json.loads((directory / "FORMAT").read_text())["version"]
    return cast("int", found)


def test_a_new_store_gets_the_current_version(tmp_path: Path) -> None:
    open_store(tmp_path / "s", "volume", 3, {})
    assert json.loads((tmp_path / "s/FORMAT").read_text()) == {"kind": "volume", "version": 3}
    open_store(tmp_path / "s", "volume", 3, {})
    assert [entry.name for entry in (tmp_path / "s").iterdir()] == ["FORMAT"]


def test_a_newer_store_is_refused_and_untouched(tmp_path: Path) -> None:
    open_store(tmp_path, "volume", 4, {})
    with pytest.raises(NewerFormat, match="format 4; this program knows 3"):
        open_store(tmp_path, "volume", 3, {})
    assert version(tmp_path) == 4


# A made-up history: version 1 kept `greeting`, 2 calls it `hello`, 3 shouts.
def one_to_two(directory: Path) -> None:
    if (directory / "greeting").exists():
        (directory / "greeting").rename(directory / "hello")


def two_to_three(directory: Path) -> None:
    text = (directory / "hello").read_text()
    write_durably(directory / "hello", text.upper().encode())


UPGRADES = {1: one_to_two, 2: two_to_three}


def old_store(directory: Path) -> Path:
    open_store(directory, "greetings", 1, {})
    (directory / "greeting").write_text("hello")
    return directory


def test_an_older_store_is_upgraded_step_by_step(tmp_path: Path) -> None:
    open_store(old_store(tmp_path), "greetings", 3, UPGRADES)
    assert (tmp_path / "hello").read_text() == "HELLO"
    assert version(tmp_path) == 3


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_upgrade_that_crashes_goes_on_at_the_next_start(
    tmp_path: Path, step: int, when: str
) -> None:
    def crashing(directory: Path) -> None:
        if when == "after":
            UPGRADES[step](directory)
        raise KeyboardInterrupt

    old_store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path, "greetings", 3, {**UPGRADES, step: crashing})
    assert version(tmp_path) == step
    open_store(tmp_path, "greetings", 3, UPGRADES)
    assert (tmp_path / "hello").read_text() == "HELLO"
    assert version(tmp_path) == 3


def test_a_missing_upgrade_is_a_clear_refusal(tmp_path: Path) -> None:
    with pytest.raises(WrongStore, match="too old"):
        open_store(old_store(tmp_path), "greetings", 3, {2: two_to_three})


def test_another_kind_of_store_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path, "volume", 1, {})
    with pytest.raises(WrongStore, match="kind 'volume', not ledger"):
        open_store(tmp_path, "ledger", 1, {})


def test_a_directory_of_other_files_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(WrongStore, match="thesis"):
        open_store(tmp_path, "volume", 1, {})
    assert not (tmp_path / "FORMAT").exists()


def test_a_torn_first_write_leaves_a_directory_that_opens(tmp_path: Path) -> None:
    (tmp_path / ".FORMAT.new").write_bytes(b'{"ki')
    with lock_directory(tmp_path):
        open_store(tmp_path, "volume", 1, {})
    assert version(tmp_path) == 1


DAMAGED = [
    b"null",
    b"[]",
    b"[" * 5000,
    b'{"kind":"volume","version":true}',
    b'{"kind":"volume","version":0}',
    b'{"version":1}',
]


@given(st.binary(max_size=60) | st.sampled_from(DAMAGED))
@settings(max_examples=60, deadline=None)
def test_a_damaged_format_file_is_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    directory = tmp_path_factory.mktemp("store", numbered=True)
    (directory / "FORMAT").write_bytes(raw)
    with pytest.raises(WrongStore):
        open_store(directory, "volume", 1, {})


def test_a_locked_directory_refuses_a_second_holder(tmp_path: Path) -> None:
    holder = f"in use by process {os.getpid()}"
    with lock_directory(tmp_path), pytest.raises(DirectoryLocked, match=holder):
        lock_directory(tmp_path)
    lock = lock_directory(tmp_path)
    lock.release()
    lock.release()


def test_a_lock_knows_that_its_directory_was_removed_or_replaced(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with lock_directory(store) as lock:
        assert lock.in_place()
        store.rename(tmp_path / "elsewhere")
        assert not lock.in_place()
        with lock_directory(store) as other:
            assert other.in_place()
            assert not lock.in_place()
    assert not lock.in_place()


def test_the_lock_ends_with_its_process_and_is_not_inherited(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, subprocess; from chain.format import lock_directory\n"
        "lock = lock_directory(pathlib.Path(sys.argv[1]))\n"
        "child = subprocess.Popen(['sleep', '30'], close_fds=False)\n"
        "print(child.pid, flush=True); sys.stdin.read(); import os; os._exit(9)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(DirectoryLocked, match=str(holder.pid)):
            lock_directory(tmp_path)
        holder.stdin.close()
        holder.wait(10)
        lock_directory(tmp_path).release()
    finally:
        os.kill(child, 9)
        holder.stdout.close()


def test_every_refusal_is_a_store_error() -> None:
    for kind in (NewerFormat, WrongStore, DirectoryLocked):
        assert issubclass(kind, StoreError)


def test_a_mark_is_overwritten_where_a_second_file_finds_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "MARK"
    write_mark(path, b"open and longer")
    real = os.open

    def full(name: str | Path, flags: int, *more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "no space left")
        return real(name, flags, *more)

    monkeypatch.setattr(os, "open", full)
    write_mark(path, b"clean")
    assert path.read_bytes() == b"clean"
    with pytest.raises(OSError, match="NEW") as told:
        write_mark(tmp_path / "NEW", b"x")
    assert told.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["MARK"]
