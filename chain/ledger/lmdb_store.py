"""The ledger's store on LMDB, whose every row carries a checksum. docs/specs/ledger-store.md.

LMDB has none of its own, and a balance that a flipped bit changed would become right with the next
signed block. So: a value ends with the CRC-32C of its space, key and value (0.3 µs a row), and a
start walks through the pages before LMDB follows a pointer in them (13 µs a page).
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import lmdb
from lmdb.verify import VerifyError, verify

from chain.format import sync_directory
from chain.ledger.store import SPACES, Changes, LedgerDamaged, Space, StoreFull, View

# Sparse: it costs address space, not disk.
MAP_BYTES = 1 << 38
SUM_BYTES = 4
# 1 s of CPU. Larger files are not walked through: their rows are checked when they are read.
WALK_BYTES_MAX = 256 << 20
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
)
_checksum: Callable[[bytes], int] = google_crc32c.value


def _sum(space: Space, key: bytes, value: bytes) -> bytes:
    return _checksum(b"%b/%b/%b" % (space.encode(), key, value)).to_bytes(SUM_BYTES, "little")


def damage_text(directory: Path, what: str) -> str:
    """One sentence for the operator; `directory` is DATA/chain/ledger/lmdb."""
    data = directory.parents[2]
    return (
        f"the ledger in {directory} is damaged ({what}): "
        f"run cumulus chain repair --data-dir {data}, or restore a copy"
    )


class _LmdbView:
    def __init__(self, store: "LmdbStore", transaction: Any) -> None:
        self._store = store
        self._transaction = transaction

    def get(self, space: Space, key: bytes) -> bytes | None:
        raw = self._transaction.get(key, db=self._store.databases[space])
        return None if raw is None else self._checked(space, key, raw)

    def scan(self, space: Space, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._transaction.cursor(db=self._store.databases[space])
        # an empty key means "from the first" to us and is an error to LMDB
        found = cursor.set_range(start) if start else cursor.first()
        if not found:
            return
        for key, raw in cursor:
            if end is not None and key >= end:
                return
            yield key, self._checked(space, key, raw)

    def _checked(self, space: Space, key: bytes, raw: bytes) -> bytes:
        value = raw[:-SUM_BYTES]
        if raw[-SUM_BYTES:] != _sum(space, key, value):
            raise self._store.damage(f"row {key.hex()[:24]} of {space} has not its checksum")
        return value


class LmdbStore:
    """One LMDB environment. Open after the process is spawned; one process at a time."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        """Raises LedgerDamaged, StoreFull."""
        self.directory = directory
        self.on_damage: Callable[[LedgerDamaged], None] = lambda _: None
        directory.mkdir(parents=True, exist_ok=True)
        self._walk()
        with self._telling():
            self._environment = _opened(directory, sync=sync)
        try:
            with self._telling():
                self._environment.reader_check()
                self.databases = _databases(self._environment)
        except BaseException:
            self._environment.close()
            raise
        sync_directory(directory)

    def _walk(self) -> None:
        """Look at every page before LMDB does, which would follow a damaged pointer anywhere."""
        file = self.directory / "data.mdb"
        if file.exists() and 0 < file.stat().st_size <= WALK_BYTES_MAX:
            for problem in problems_of(self.directory):
                raise self.damage(problem)

    def damage(self, what: str) -> LedgerDamaged:
        """The error to raise; whoever owns the store hears of it too."""
        error = LedgerDamaged(damage_text(self.directory, what))
        self.on_damage(error)
        return error

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise self.damage(str(error)) from error
        except lmdb.PanicError:
            raise  # the file's head could not be written: a new process reads what is there
        except (lmdb.Error, OSError) as error:
            raise StoreFull(f"the ledger cannot be written: {error}") from error

    @contextmanager
    def read(self) -> Iterator[View]:
        """A read transaction."""
        try:
            with self._environment.begin(buffers=False) as transaction:
                yield _LmdbView(self, transaction)
        except _DAMAGE as error:
            raise self.damage(str(error)) from error

    def commit(self, changes: Changes) -> None:
        """One write transaction, synced to the disk."""
        with self._telling(), self._environment.begin(write=True) as transaction:
            for (space, key), value in sorted(changes.items(), key=lambda item: item[0]):
                if value is None:
                    transaction.delete(key, db=self.databases[space])
                else:
                    raw = value + _sum(space, key, value)
                    transaction.put(key, raw, db=self.databases[space])

    def sync(self) -> None:
        """What was committed without it is on the disk. Raises StoreFull."""
        with self._telling():
            self._environment.sync(True)

    def close(self) -> None:
        self._environment.close()


def problems_of(directory: Path) -> list[str]:
    """What is wrong with the pages of an LMDB file: nothing if it is whole."""
    try:
        found: list[str] = verify(str(directory))  # type: ignore[no-untyped-call]
    except VerifyError as error:
        return [str(error)]
    return found


def _opened(directory: Path, *, sync: bool) -> Any:
    return lmdb.open(
        str(directory), map_size=MAP_BYTES, max_dbs=len(SPACES), sync=sync, max_readers=64
    )


def _databases(environment: Any) -> Mapping[Space, Any]:
    return {space: environment.open_db(space.encode()) for space in SPACES}


# ---------------------------------------------------------------- version 1
def add_checksums(directory: Path) -> None:
    """Upgrade of format 1, whose rows had none: a copy takes the place of the ledger.

    Safe to repeat after a crash at any moment: while there is `lmdb.old`, the copy is complete.
    `forget_version_1` removes it, once the new format is written.
    """
    old, new, gone = (directory / name for name in ("lmdb", "lmdb.new", "lmdb.old"))
    if old.exists() and not gone.exists():
        for problem in problems_of(old):
            raise LedgerDamaged(damage_text(old, problem))
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        _copy_with_sums(old, new)
        sync_directory(new)
        old.rename(gone)
        sync_directory(directory)
    finish_replacement(directory)


def finish_replacement(directory: Path) -> None:
    """Give `lmdb.new` its place when that is empty. Raises OSError."""
    old, new = directory / "lmdb", directory / "lmdb.new"
    if new.exists() and not old.exists():
        new.rename(old)
        sync_directory(directory)


def forget_version_1(directory: Path) -> None:
    """Remove what `add_checksums` left."""
    shutil.rmtree(directory / "lmdb.old", ignore_errors=True)


def _copy_with_sums(old: Path, new: Path) -> None:
    source, target = _opened(old, sync=True), _opened(new, sync=False)
    try:
        read, written = _databases(source), _databases(target)
        for space in SPACES:
            with source.begin() as reading:
                rows = iter(reading.cursor(db=read[space]))
                while _copy_some(rows, target, written[space], space):
                    pass
        target.sync(True)
    finally:
        source.close()
        target.close()


def _copy_some(
    rows: Iterator[tuple[bytes, bytes]], target: Any, database: Any, space: Space
) -> bool:
    """Up to 10,000 rows, in order; whether more may follow."""
    with target.begin(write=True) as writing:
        for _ in range(10_000):
            row = next(rows, None)
            if row is None:
                return False
            writing.put(row[0], row[1] + _sum(space, *row), append=True, db=database)
    return True
