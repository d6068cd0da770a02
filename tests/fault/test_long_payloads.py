"""Long payloads are written from where they lie, wherever that is, and checked afterwards."""

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from chain.net.shared import address_of
from miner.store import layout
from miner.store.files import LocalDisk, LocalFile, VolumeFile
from miner.store.interface import WrongFragment
from miner.store.journal import Journal, NewFragment
from miner.store.layout import BLOCK, RecordHead, encode_record, parse_record
from miner.store.opening import JournalOptions, open_journal
from tests.conformance.fragment_store_suite import fragments

LONG = 64 * 1024


@pytest.fixture(autouse=True)
def _short_ones_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LONG_BYTES", LONG)


@pytest.fixture
def long() -> list[NewFragment]:
    """Four, each at another place in its page."""
    made = []
    for name, skip in (("a", 0), ("b", 1), ("c", 511), ("d", 4095)):
        record, payload = fragments(name, 4 * LONG + 4 * skip)[1][0]
        memory = memoryview(bytearray(len(payload) + 2 * BLOCK))
        at = skip - address_of(memory) % BLOCK + BLOCK
        view = memory[at : at + len(payload)]
        view[:] = payload
        made.append(NewFragment(record.key, record.id, record.encode(), view, 1))
    return made


class ChangingFile(LocalFile):
    """Calls back when a write is done."""

    def __init__(self, path: Path, written: Callable[[], None]) -> None:
        super().__init__(path)
        self._written = written
        self.lengths: list[list[int]] = []

    def write(self, parts: Sequence[memoryview], offset: int) -> None:
        self.lengths.append([len(part) for part in parts])
        super().write(parts, offset)
        self._written()


class ChangingDisk(LocalDisk):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._path = directory
        self.written: Callable[[], None] = lambda: None
        self.last: ChangingFile | None = None

    def create(self, name: str) -> VolumeFile:
        super().create(name).close()
        return self.open(name)

    def open(self, name: str) -> VolumeFile:
        self.last = ChangingFile(self._path / name, lambda: self.written())
        return self.last


def opened(directory: Path, disk: ChangingDisk) -> Journal:
    options = JournalOptions(disk, random.Random(3).randbytes, 1 << 30, 1 << 30, "boot")
    return open_journal(directory / "index", options)[0]


def stored(journal: Journal, put: NewFragment) -> bool:
    place = journal.index.get(put.key)
    if place is None:
        return False
    file = journal.volumes[place.volume].file
    assert file.read(place.size, place.payload) == put.payload
    return True


@pytest.mark.parametrize("owner", [b"", b"o" * 32])
@pytest.mark.parametrize("padding", [None, 0, 1, 4095])
def test_a_padded_head_is_read_back(padding: int | None, owner: bytes) -> None:
    head = RecordHead(layout.Kind.FRAGMENT, True, 7, 3, 4, b"description", owner, padding)
    raw = encode_record(head, 8, b"k" * 32)
    assert len(raw) == head.head_bytes
    assert parse_record(raw + b"payload", 8, b"k" * 32) == head
    assert parse_record(raw, 16, b"k" * 32) is None


def test_whole_pages_are_written_from_where_they_lie_and_everything_reads_again(
    tmp_path: Path, long: list[NewFragment]
) -> None:
    disk = ChangingDisk(tmp_path / "volumes")
    journal = opened(tmp_path, disk)
    assert journal.commit(long, [], 5).errors == [None] * 4
    assert disk.last is not None
    written = [size for size in disk.last.lengths[-1] if size >= LONG - BLOCK]
    assert written == [LONG, LONG - BLOCK, LONG - BLOCK, LONG]
    assert all(stored(journal, put) for put in long)
    for put in long:
        place = journal.index.get(put.key)
        assert place is not None
        assert place.payload % BLOCK == address_of(put.payload) % BLOCK
    journal.index.close()
    shutil.rmtree(tmp_path / "index")
    again = opened(tmp_path, disk)  # from the volumes alone
    assert all(stored(again, put) for put in long)
    again.index.close()


def test_a_payload_that_changes_while_it_is_written_is_refused_alone(
    tmp_path: Path, long: list[NewFragment]
) -> None:
    disk = ChangingDisk(tmp_path / "volumes")
    journal = opened(tmp_path, disk)
    assert journal.commit(long[:1], [], 5).errors == [None]
    end = journal.volumes[1].figures.end
    changed = long[2].payload
    assert isinstance(changed, memoryview)

    def change() -> None:
        changed[-1] ^= 1
        disk.written = lambda: None

    disk.written = change
    errors = journal.commit(long[1:], [], 6).errors
    assert [type(error) for error in errors] == [type(None), WrongFragment, type(None)]
    assert journal.index.get(long[2].key) is None
    assert stored(journal, long[1])
    assert stored(journal, long[3])
    assert journal.fragments == 3
    changed[-1] ^= 1
    wrong = long[2]._replace(payload=bytes(len(changed)))
    # The wrong one came first: the right one counts all the same.
    errors = journal.commit([wrong, long[2]], [], 7).errors
    assert [type(error) for error in errors] == [WrongFragment, type(None)]
    assert stored(journal, long[2])
    size = journal.volumes[1].figures.end
    assert journal.commit([wrong], [], 8).errors[0] is not None
    assert journal.volumes[1].figures.end == size > end
    journal.index.close()


def test_what_was_stored_before_reads_beside_padded_records(
    tmp_path: Path, long: list[NewFragment], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = ChangingDisk(tmp_path / "volumes")
    journal = opened(tmp_path, disk)
    with monkeypatch.context() as older:
        older.setattr(layout, "LONG_BYTES", 1 << 40)
        assert journal.commit(long[:2], [], 5).errors == [None] * 2
    assert journal.commit(long[2:], [], 6).errors == [None] * 2
    journal.index.close()
    shutil.rmtree(tmp_path / "index")
    again = opened(tmp_path, disk)
    assert all(stored(again, put) for put in long)
    again.index.close()
