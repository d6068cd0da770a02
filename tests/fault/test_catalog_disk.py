"""The catalog on disks that fill up, fail, tear writes and flip bits; crashes at every step."""

import errno
import struct
import zlib
from pathlib import Path

import lmdb
import pytest

from gateway.catalog.compaction import CompactionSettings, Compactor
from gateway.catalog.index import Index, Tally
from gateway.catalog.interface import (
    Batch,
    CatalogDamaged,
    CatalogUnavailable,
    CommitUncertain,
    Delete,
    Exists,
    Put,
    Space,
)
from gateway.catalog.local import LocalCatalog
from gateway.catalog.log import LogFailed, file_numbers, file_path
from gateway.catalog.record import crc32c, frame_bytes
from gateway.catalog.store import CatalogStore, StoreSettings
from tests.fault.catalog_tools import (
    SMALL,
    Crash,
    FailingDisk,
    body,
    compact_here,
    count,
    delete,
    open_store,
    put,
    row,
)

LIVE, BODIES = Space.LIVE, Space.BODIES


def last_file(directory: Path) -> Path:
    return file_path(directory / "log", file_numbers(directory / "log")[-1])


def commit_for_ever(store: CatalogStore) -> None:
    while True:
        store.commit([put(LIVE, b"%d" % store.position.sequence, bytes(2000))])


def test_a_torn_group_is_cut_and_the_groups_before_stay(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(LIVE, b"a", b"1")])
    start = store.log.offset
    store.commit([put(LIVE, b"b", b"2"), put(LIVE, b"c", b"3")])
    end = store.log.offset
    store.abandon()
    whole = last_file(tmp_path).read_bytes()
    for cut in range(start, end, 7):
        last_file(tmp_path).write_bytes(whole[:cut] + bytes(100))
        # Another boot id: the index was lost with the page cache.
        store = open_store(tmp_path, boot=f"cut at {cut}")
        assert row(store, LIVE, b"a") == b"1"
        assert row(store, LIVE, b"c") is None
        assert store.log.offset in {start, start + (end - start) // 2}
        assert store.commit([put(LIVE, b"d", b"4")]) == [store.position.sequence]
        store.abandon()


def test_a_group_torn_at_its_start_is_cut_although_its_end_was_written(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(LIVE, b"a", b"1")])
    start = store.log.offset
    store.commit([put(LIVE, b"b", b"2"), put(LIVE, b"c", b"3")])
    store.abandon()
    raw = bytearray(last_file(tmp_path).read_bytes())
    raw[start + 40] ^= 1
    last_file(tmp_path).write_bytes(raw)
    store = open_store(tmp_path, boot="next")
    assert (row(store, LIVE, b"a"), row(store, LIVE, b"b"), row(store, LIVE, b"c")) == (
        b"1",
        None,
        None,
    )
    store.abandon()


def test_damage_before_a_later_group_is_told_and_only_salvage_goes_on(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(LIVE, b"a", b"1")])
    at = store.log.offset
    for key in (b"b", b"c"):
        store.commit([put(LIVE, key, key)])
    store.abandon()
    raw = bytearray(last_file(tmp_path).read_bytes())
    raw[at + 45] ^= 1
    last_file(tmp_path).write_bytes(raw)
    with pytest.raises(CatalogDamaged, match=r"commits 2\.\.2 are lost"):
        open_store(tmp_path, boot="next")
    store = CatalogStore.open(tmp_path, boot=lambda: "next", settings=SMALL, salvage=True)
    assert (row(store, LIVE, b"a"), row(store, LIVE, b"b"), row(store, LIVE, b"c")) == (
        b"1",
        None,
        b"c",
    )
    store.abandon()


def test_a_missing_log_file_is_told(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(200):
        store.commit([put(LIVE, b"%d" % number, bytes(50))])
    numbers = file_numbers(tmp_path / "log")
    assert len(numbers) > 3
    store.abandon()
    file_path(tmp_path / "log", numbers[1]).unlink()
    with pytest.raises(CatalogDamaged, match="are lost"):
        open_store(tmp_path, boot="next")


def test_a_flipped_bit_in_a_body_is_an_error_never_other_bytes(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(BODIES, b"s", bytes(100))])
    store.abandon()
    raw = bytearray(last_file(tmp_path).read_bytes())
    raw[120] ^= 1
    last_file(tmp_path).write_bytes(raw)
    store = open_store(tmp_path)  # same boot: the index is trusted, the log's middle not read
    with pytest.raises(CatalogDamaged, match="checksum"):
        body(store, b"s")
    store.abandon()


def test_after_a_kill_only_the_logs_tail_is_replayed(tmp_path: Path) -> None:
    disk = FailingDisk()
    store = open_store(tmp_path, disk)
    store.commit([put(LIVE, b"a", b"1")])
    disk.crash_at = "commit index"
    with pytest.raises(Crash):
        store.commit([put(LIVE, b"b", b"2"), put(BODIES, b"s", b"body")])
    identifier = store.index.identifier
    store.abandon()
    store = open_store(tmp_path)
    assert store.index.identifier == identifier
    assert row(store, LIVE, b"b") == b"2"
    assert body(store, b"s") == b"body"
    store.abandon()


def test_after_a_power_loss_the_index_comes_from_checkpoint_and_log(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(50):
        store.commit([put(LIVE, b"%03d" % number, b"v"), put(BODIES, b"%03d" % number, bytes(9))])
    store.checkpoint()
    store.commit([delete(LIVE, b"000"), put(BODIES, b"new", b"body")])
    identifier = store.index.identifier
    store.abandon()
    (tmp_path / "index" / "data.mdb").write_bytes(b"half written")
    store = open_store(tmp_path, boot="after power came back")
    assert store.index.identifier != identifier
    assert count(store, LIVE) == 49
    assert body(store, b"new") == b"body"
    assert body(store, b"049") == bytes(9)
    store.close()


def test_an_index_that_does_not_open_is_made_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(LIVE, b"a", b"1")])
    store.close()
    (tmp_path / "index" / "data.mdb").write_bytes(bytes(8192))
    store = open_store(tmp_path)
    assert row(store, LIVE, b"a") == b"1"
    store.close()


def test_a_full_disk_refuses_writes_keeps_reads_and_recovers(tmp_path: Path) -> None:
    disk = FailingDisk()
    store = open_store(tmp_path, disk)
    store.commit([put(LIVE, b"a", b"1"), put(BODIES, b"s", b"body")])
    for room in (0, 10, 60):
        disk.room = room
        before = store.log.offset
        with pytest.raises(CatalogUnavailable, match="No space"):
            store.commit([put(LIVE, b"b", bytes(100)), put(LIVE, b"c", bytes(4000))])
        assert store.log.offset == before
        assert last_file(tmp_path).stat().st_size == before
        assert body(store, b"s") == b"body"
        assert row(store, LIVE, b"b") is None
    disk.room = None
    assert store.commit([put(LIVE, b"b", b"2")]) == [3]
    store.abandon()
    store = open_store(tmp_path, boot="next")
    assert count(store, LIVE) == 2
    store.close()


def test_a_full_disk_at_a_new_log_file_recovers(tmp_path: Path) -> None:
    disk = FailingDisk()
    store = open_store(tmp_path, disk)
    store.commit([put(LIVE, b"a", bytes(3000))])
    assert store.log.full
    disk.room = 5
    with pytest.raises(CatalogUnavailable):
        store.commit([put(LIVE, b"b", b"2")])
    disk.room = None
    assert store.commit([put(LIVE, b"b", b"2")]) == [2]
    assert file_numbers(tmp_path / "log") == [1, 2]
    store.close()


def test_a_full_index_undoes_the_group_in_the_log(tmp_path: Path) -> None:
    settings = type(SMALL)(file_bytes=1 << 20, map_bytes=1 << 18)
    store = CatalogStore.open(tmp_path, settings=settings)
    with pytest.raises(CatalogUnavailable, match="index"):
        commit_for_ever(store)
    made = store.position.sequence
    assert made == count(store, LIVE)
    store.abandon()
    store = CatalogStore.open(tmp_path, settings=SMALL, boot=lambda: "next")
    assert count(store, LIVE) == made
    assert store.commit([put(LIVE, b"x", b"")]) == [made + 1]
    store.close()


async def test_a_failed_sync_ends_the_writer_and_leaves_the_outcome_open(tmp_path: Path) -> None:
    disk = FailingDisk()
    catalog = LocalCatalog.open(tmp_path, disk=disk, settings=SMALL)
    await catalog.commit(put(LIVE, b"a", b"1"))
    disk.sync_error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(CommitUncertain, match="Input/output"):
        await catalog.commit(put(LIVE, b"b", b"2"))
    assert catalog.writer.failed.is_set()
    disk.sync_error = None
    with pytest.raises(CatalogUnavailable):
        await catalog.commit(put(LIVE, b"c", b"3"))
    with catalog.read() as reader:
        assert reader.scan(LIVE, b"", None, 9) == [(b"a", b"1")]
    await catalog.close()
    # The next writer finds the record whole in the log; it may do so, nobody was told otherwise.
    catalog = LocalCatalog.open(tmp_path, settings=SMALL)
    await catalog.commit(Batch([Exists(LIVE, b"b")], [Put(LIVE, b"c", b"3")]))
    await catalog.close()


def test_after_a_failed_sync_the_last_group_is_written_again(tmp_path: Path) -> None:
    class Recording(FailingDisk):
        written: bytes = b""

        def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
            self.written += bytes(data)
            super().write(descriptor, data, offset)

    disk = FailingDisk()
    store = open_store(tmp_path, disk)
    store.commit([put(LIVE, b"a", b"first")])
    disk.sync_error = OSError(errno.EIO, "Input/output error")
    with pytest.raises(LogFailed):
        store.commit([put(LIVE, b"b", b"second")])
    store.abandon()
    again = Recording()
    store = open_store(tmp_path, again)
    assert b"second" in again.written
    assert b"first" not in again.written
    store.close()


# ---------------------------------------------------------------- compaction
NEVER = CompactionSettings(checkpoint_bytes=1 << 40, step_rows=4)
LIVE_KEYS = [b"%03d" % number for number in range(0, 60, 6)]


async def filled(directory: Path, disk: FailingDisk, boot: str = "boot") -> LocalCatalog:
    """60 bodies over several files, of which every sixth lives."""
    catalog = LocalCatalog.open(directory, disk=disk, boot=lambda: boot, settings=SMALL)
    for number in range(60):
        await catalog.commit(put(BODIES, b"%03d" % number, b"%03d" % number * 60))
    for number in range(60):
        if number % 6:
            await catalog.commit(delete(BODIES, b"%03d" % number))
    return catalog


def check_bodies(catalog: LocalCatalog) -> None:
    with catalog.read() as reader:
        rows = reader.scan(BODIES, b"", None, 99)
        assert rows == [(key, key * 60) for key in LIVE_KEYS]


async def test_compaction_frees_dead_files_and_keeps_live_bodies(tmp_path: Path) -> None:
    catalog = await filled(tmp_path, FailingDisk())
    before = file_numbers(tmp_path / "log")
    with catalog.read() as old:
        done = await Compactor(catalog, NEVER).work(force=True)
        assert done.moved > 0
        assert set(done.removed) <= set(before)
        assert 1 in done.removed
        # A snapshot from before finds the bodies where they are now.
        assert old.scan(BODIES, b"", None, 99) == [(key, key * 60) for key in LIVE_KEYS]
    check_bodies(catalog)
    assert len(file_numbers(tmp_path / "log")) < len(before) / 2
    await catalog.close()
    for boot in ("boot", "another boot"):
        (tmp_path / "index-state").write_text("open boot\n")
        catalog = LocalCatalog.open(tmp_path, boot=lambda: boot, settings=SMALL)  # noqa: B023
        check_bodies(catalog)
        await catalog.close()


async def test_files_the_checkpoint_does_not_cover_stay(tmp_path: Path) -> None:
    catalog = await filled(tmp_path, FailingDisk())
    done = await Compactor(catalog, NEVER).work()
    assert done.moved > 0
    assert done.removed == ()
    await catalog.close()


async def test_rows_leave_the_log_with_the_checkpoint_and_bodies_move_once(tmp_path: Path) -> None:
    catalog = LocalCatalog.open(tmp_path, settings=SMALL)
    size = 0
    for number in range(120):
        key = b"%03d" % number
        await catalog.commit(Batch((), [Put(LIVE, key, bytes(100)), Put(BODIES, key, key * 60)]))
        size += frame_bytes(key, 180)
    compactor = Compactor(catalog, NEVER)
    assert (await compactor.work()).moved == 0, "without a checkpoint the rows must stay"
    assert (await compactor.work(force=True)).moved > 100
    head = catalog.store.log.number
    log = sum(file_path(tmp_path / "log", n).stat().st_size for n in file_numbers(tmp_path / "log"))
    assert log < 1.2 * size
    assert (await compactor.work(force=True)).moved < 20, "only what lies in the last file's rows"
    assert catalog.store.log.number <= head + 1
    await catalog.close()
    store = open_store(tmp_path, boot="another boot")
    assert [row(store, LIVE, b"%03d" % n) for n in range(120)] == [bytes(100)] * 120
    assert [body(store, b"%03d" % n) for n in range(120)] == [b"%03d" % n * 60 for n in range(120)]
    store.close()


async def test_what_deleted_objects_took_comes_back(tmp_path: Path) -> None:
    catalog = LocalCatalog.open(tmp_path, settings=StoreSettings(1 << 18, 1 << 28))
    names = [b"%016d" % number for number in range(500)]
    kept = names[::50]
    for name in names:
        changes = [Put(BODIES, name, name * 256), Put(Space.LEAVES, name, bytes(10))]
        await catalog.commit(Batch((), changes))
    compactor = Compactor(catalog, NEVER)
    await compactor.work(force=True)
    full = _sizes(tmp_path)
    assert full["log"] > 500 * 4096
    for name in set(names) - set(kept):
        await catalog.commit(Batch((), [Delete(BODIES, name), Delete(Space.LEAVES, name)]))
    await compactor.work(force=True)
    await compactor.work(force=True)  # the checkpoint takes over what the first round wrote
    for space in (BODIES, Space.LEAVES):
        with catalog.store.index.begin() as rows:
            assert [key for key, _ in rows.scan(space, b"", None, 999)] == kept
            stat = rows.transaction.stat(catalog.store.index.spaces[space])
        assert stat["leaf_pages"] == 1
    left = _sizes(tmp_path)
    # What is live, and the file being written: the deletions themselves are in it, or went.
    assert left["log"] < len(kept) * 4200 + (1 << 16)
    assert left["checkpoint"] < full["checkpoint"] / 2
    await catalog.close()
    store = open_store(tmp_path, boot="another boot")
    assert [body(store, name) for name in kept] == [name * 256 for name in kept]
    assert count(store, BODIES) == count(store, Space.LEAVES) == len(kept)
    store.close()


def _sizes(directory: Path) -> dict[str, int]:
    """Bytes of each folder, without what is zeroed ahead."""
    return {
        name: sum(len(path.read_bytes().rstrip(b"\0")) for path in (directory / name).iterdir())
        for name in ("log", "checkpoint")
    }


def test_a_kill_while_a_checkpoint_is_unpacked_leaves_no_half_index(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(200):
        store.commit([put(LIVE, b"%03d" % number, bytes(300))])
    compact_here(store, NEVER)
    store.abandon()
    disk = FailingDisk()
    disk.crash_at = "name restored index"
    with pytest.raises(Crash):
        open_store(tmp_path, disk, boot="second")
    assert (tmp_path / "index-new" / "new").stat().st_size > 200 * 300
    assert not (tmp_path / "index").exists()
    store = open_store(tmp_path, boot="second")
    assert count(store, LIVE) == 200
    assert not list(tmp_path.glob("index-[no]*"))
    store.close()


def test_an_index_is_made_again_where_no_reader_can_leave_a_lock_file(tmp_path: Path) -> None:
    """A reader that opened the old data before they went would hand on its last transaction."""
    store = open_store(tmp_path)
    store.commit([put(LIVE, b"a", b"1")])
    store.checkpoint()
    store.abandon()
    disk = FailingDisk()
    for step in ("name restored index", "name made index"):
        disk.crash_at = step
        with pytest.raises(Crash):
            open_store(tmp_path, disk, boot=step)
        assert not (tmp_path / "index").exists()
        with pytest.raises(lmdb.Error):
            Index.open_readonly(tmp_path / "index")
        assert not (tmp_path / "index").exists()
    assert sorted(one.name for one in (tmp_path / "index-new").iterdir()) == [
        "data.mdb",
        "lock.mdb",
    ]
    store = open_store(tmp_path, boot="third")
    assert row(store, LIVE, b"a") == b"1"
    store.close()


@pytest.mark.parametrize("place", [1, 100, -1, None])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, place: int | None) -> None:
    store = open_store(tmp_path)
    for number in range(50):
        store.commit([put(LIVE, b"%03d" % number, b"v" * 300)])
    store.checkpoint()
    store.abandon()
    (path,) = (tmp_path / "checkpoint").iterdir()
    raw = bytearray(path.read_bytes())
    if place is None:  # in a row of one that is not compressed
        path.unlink()
        raw = bytearray(zlib.decompress(raw))
        place = raw.index(b"v" * 300) + 9
        path = path.with_name(f"{path.name.partition('-')[0]}-{crc32c(raw):08x}.mdb")
    raw[place] ^= 0x40
    path.write_bytes(raw)
    store = open_store(tmp_path, boot="second")
    rows = [row(store, LIVE, b"%03d" % number) for number in range(50)]
    assert rows == [b"v" * 300] * 50, "the log still has everything"
    assert sorted(one.name for one in (tmp_path / "index").iterdir()) == ["data.mdb", "lock.mdb"]
    store.close()


def test_a_checkpoint_of_the_first_release_is_restored(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([put(LIVE, b"a", b"1")])
    store.checkpoint()
    store.close()
    [packed] = (tmp_path / "checkpoint").iterdir()
    plain = zlib.decompress(packed.read_bytes())
    assert len(plain) > 2 * packed.stat().st_size
    sequence = packed.name.partition("-")[0]
    packed.unlink()
    (tmp_path / "checkpoint" / f"{sequence}-{crc32c(plain):08x}.mdb").write_bytes(plain)
    store = open_store(tmp_path, boot="another boot")
    assert row(store, LIVE, b"a") == b"1"
    store.checkpoint()
    assert [path.suffix for path in (tmp_path / "checkpoint").iterdir()] == [".z"]
    store.close()


def test_a_file_whose_bodies_the_first_release_did_not_count_is_taken_for_bodies() -> None:
    assert Tally.unpack(struct.pack("<QQQ", 7, 100, 900)) == Tally(7, 100, 900, 900)


STEPS = [
    "create log file",
    "roll log file",
    "sync group",
    "commit index",
    "move bodies",
    "copy checkpoint",
    "name checkpoint",
    "remove checkpoint",
    "remove log file",
]


@pytest.mark.parametrize("boot", ["boot", "another boot"])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_of_compaction_loses_nothing(
    tmp_path: Path, step: str, after: int, boot: str
) -> None:
    disk = FailingDisk()
    catalog = await filled(tmp_path, disk)
    catalog.store.checkpoint()
    disk.crash_at, disk.crash_after = step, after
    crashed = False
    try:
        compact_here(catalog.store, NEVER)
    except Crash:
        crashed = True
    assert crashed == (disk.steps.count(step) > after and disk.crash_after == 0)
    await catalog.writer.close()
    catalog.store.abandon()
    catalog = LocalCatalog.open(tmp_path, boot=lambda: boot, settings=SMALL)
    check_bodies(catalog)
    await Compactor(catalog, NEVER).work(force=True)
    check_bodies(catalog)
    await catalog.close()
