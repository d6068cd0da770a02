"""Claims about cdn/shelf.py on a disk that is full, torn, corrupt or shared."""

import os
from pathlib import Path

import pytest

from cdn.shelf import SLICE_BYTES, DiskShelf
from chain.clock import SystemClock
from chain.format import DirectoryLocked, NewerFormat
from chain.ids import SegmentId

A, B = SegmentId(b"a" * 32), SegmentId(b"b" * 32)
BODY = os.urandom(5000)


class ManualClock(SystemClock):
    now = 0.0

    def monotonic(self) -> float:
        return self.now


def shelf_at(path: Path, capacity: int = 1 << 24, clock: SystemClock | None = None) -> DiskShelf:
    return DiskShelf(path, capacity, clock or ManualClock())


def put(shelf: DiskShelf, segment: SegmentId, index: int, body: bytes = BODY) -> None:
    written = shelf.write((segment, index), memoryview(body))
    shelf.settle((segment, index), len(body), written)


def files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.slice"))


def test_slices_survive_a_restart_and_are_verified_when_read_back(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    put(shelf, A, 0, bytes(SLICE_BYTES))
    put(shelf, A, 1)
    shelf.close()
    again = shelf_at(tmp_path)
    whole = SLICE_BYTES + len(BODY)
    assert again.holds(A, 0, whole)
    got = again.read(A, 0, whole, whole)
    assert got is not None
    assert bytes(got) == bytes(SLICE_BYTES) + BODY


@pytest.mark.parametrize("at", [0, 9, 13, 20, 47, 48, 3000])
def test_a_flipped_byte_anywhere_is_never_served_after_a_restart(tmp_path: Path, at: int) -> None:
    shelf = shelf_at(tmp_path)
    put(shelf, A, 0)
    shelf.close()
    [file] = files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[at] ^= 1
    file.write_bytes(raw)
    assert shelf_at(tmp_path).read(A, 0, len(BODY), len(BODY)) is None


def test_a_file_under_another_slices_name_is_never_served(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    put(shelf, A, 0)
    shelf.close()
    [file] = files(tmp_path)
    file.rename(file.with_name(f"{A.hex()}-3.slice"))
    again = shelf_at(tmp_path)
    assert again.read(A, 3 * SLICE_BYTES, 3 * SLICE_BYTES + 10, 3 * SLICE_BYTES + 5000) is None


def test_a_torn_file_and_a_temporary_file_are_not_served(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    put(shelf, A, 0)
    put(shelf, B, 0)
    shelf.close()
    torn, empty = files(tmp_path)
    os.truncate(torn, 1000)
    os.truncate(empty, 0)
    left_over = torn.with_suffix(".tmp")
    left_over.write_bytes(b"half")
    again = shelf_at(tmp_path)
    assert again.read(A, 0, len(BODY), len(BODY)) is None
    assert not again.holds(B, 0, 10)
    assert not left_over.exists()


def test_a_smaller_budget_after_a_restart_is_kept(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    for index in range(20):
        put(shelf, A, index)
    shelf.close()
    again = shelf_at(tmp_path, capacity=5 * 8192)
    assert again.used <= 5 * 8192
    assert len(files(tmp_path)) == 5


def test_a_full_disk_pauses_writing_and_keeps_serving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    shelf = shelf_at(tmp_path, clock=clock)
    put(shelf, A, 0)

    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "writev", no_space)
        put(shelf, B, 0)
    assert shelf.failures == 1
    assert shelf.paused
    assert not shelf.holds(B, 0, 10)
    assert not list(tmp_path.rglob("*.tmp"))
    got = shelf.read(A, 0, 100, len(BODY))
    assert got is not None
    assert bytes(got) == BODY
    clock.now += 61
    assert not shelf.paused


def test_a_short_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = shelf_at(tmp_path)
    monkeypatch.setattr(os, "writev", lambda fd, parts: os.write(fd, bytes(parts[0])))
    put(shelf, A, 0)
    assert not files(tmp_path)
    assert shelf.failures == 1


def test_two_processes_cannot_share_a_shelf(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    with pytest.raises(DirectoryLocked):
        shelf_at(tmp_path)
    shelf.close()
    shelf_at(tmp_path).close()


def test_a_shelf_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    shelf_at(tmp_path).close()
    file = tmp_path / "FORMAT"
    file.write_text(file.read_text().replace("1", "2"))
    with pytest.raises(NewerFormat):
        shelf_at(tmp_path)
