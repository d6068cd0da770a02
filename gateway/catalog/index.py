"""The catalog's index: LMDB, made again from the log whenever in doubt (docs/specs/catalog.md).

Rules of LMDB kept here: an environment is opened once in a process, after spawn and never before a
fork; dead readers are cleared at start; the map is large and sparse, never a writable map.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple, Self

import google_crc32c
import lmdb

from gateway.catalog.disk import Disk, read_ahead
from gateway.catalog.interface import CatalogUnavailable, Space
from gateway.catalog.record import Place
from gateway.catalog.trie import STEP, Trie

MAP_BYTES = 1 << 40  # address space only; the file grows as it is used
READERS_MAX = 1024
ID_BYTES = 16
# A catalog that ended so often right after its start has its index made again.
STARTS_MAX = 2
# LMDB's errors that no sound index gives.
DAMAGE = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)
_COPY_BYTES = 1 << 20
_DATABASES_MAX = 64
_POSITION = struct.Struct("<QQQ")
_TALLY, _OLD_TALLY = struct.Struct("<QQQQ"), struct.Struct("<QQQ")
_FILE = struct.Struct(">Q")
_SPACES = tuple(Space)


class Position(NamedTuple):
    """How far the index follows the log: the last sequence and where the next record starts."""

    sequence: int
    file: int
    offset: int


class Tally(NamedTuple):
    """What is known of a log file: its last sequence, live bytes of bodies, its length, and bytes
    of all bodies that it ever got. The rest are rows, which checkpoints hold too.
    """

    last: int
    live: int
    length: int
    bodies: int

    @classmethod
    def unpack(cls, raw: bytes) -> "Tally":
        """From its row. The first release did not count bodies: its files count as nothing else."""
        if len(raw) == _OLD_TALLY.size:
            last, live, length = _OLD_TALLY.unpack(raw)
            return cls(last, live, length, length)
        return cls._make(_TALLY.unpack(raw))


class Index:
    """An open LMDB environment with the catalog's databases."""

    def __init__(self, environment: Any, spaces: tuple[Any, ...], own: dict[str, Any]) -> None:
        self.environment = environment
        self.spaces = spaces
        self.deep, self.catalog, self.files = own["deep"], own["catalog"], own["files"]

    @classmethod
    def create(cls, path: Path, identifier: bytes, first: Position, *, map_bytes: int) -> Self:
        """Open for writing, made if need be with `identifier` and `first`. Raises lmdb.Error."""
        path.mkdir(parents=True, exist_ok=True)
        environment = lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=_DATABASES_MAX,
            max_readers=READERS_MAX,
            sync=False,
            writemap=False,
            mode=0o600,
        )
        try:
            environment.reader_check()
            with environment.begin(write=True) as transaction:
                index = cls._open(environment, transaction, create=True)
                if transaction.get(b"applied", db=index.catalog) is None:
                    transaction.put(b"applied", _POSITION.pack(*first), db=index.catalog)
                    transaction.put(b"id", identifier, db=index.catalog)
        except BaseException:
            environment.close()
            raise
        return index

    @classmethod
    def open_readonly(cls, path: Path, *, lock: bool = True) -> Self:
        """Open for reading: the directory, or a checkpoint's file. Raises lmdb.Error."""
        environment = lmdb.open(
            str(path),
            map_size=MAP_BYTES,
            max_dbs=_DATABASES_MAX,
            max_readers=READERS_MAX,
            readonly=True,
            create=False,
            lock=lock,
            subdir=path.is_dir(),
        )
        try:
            # Handles opened inside a read transaction end with it, so each gets its own.
            return cls._open(environment, None, create=False)
        except BaseException:
            environment.close()
            raise

    @classmethod
    def _open(cls, environment: Any, transaction: Any, *, create: bool) -> Self:
        def database(name: str) -> Any:
            return environment.open_db(name.encode(), txn=transaction, create=create)

        spaces = tuple(database(str(int(space))) for space in _SPACES)
        own = {name: database(name) for name in ("deep", "catalog", "files")}
        return cls(environment, spaces, own)

    def close(self) -> None:
        """Close the environment; no transaction may be open."""
        self.environment.close()

    @property
    def identifier(self) -> bytes:
        """16 random bytes that change when the index is built anew."""
        with self.environment.begin() as transaction:
            return transaction.get(b"id", db=self.catalog) or b""

    def rename(self, identifier: bytes) -> None:
        """Give an index made from a copy an identifier of its own."""
        with self.environment.begin(write=True) as transaction:
            transaction.put(b"id", identifier, db=self.catalog)

    def begin(self) -> "Rows":
        """A snapshot; use it as a context manager. Raises CatalogUnavailable."""
        try:
            return Rows(self, self.environment.begin())
        except lmdb.Error as error:
            raise CatalogUnavailable(f"the index cannot be read: {error}") from error

    def applied(self) -> Position:
        """How far the committed index follows the log."""
        with self.begin() as rows:
            return rows.applied()


class Rows:
    """All keyspaces inside one transaction."""

    __slots__ = ("_tries", "index", "transaction")

    def __init__(self, index: Index, transaction: Any) -> None:
        self.index, self.transaction = index, transaction
        self._tries: dict[Space, Trie] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.transaction.abort()

    def _trie(self, space: Space) -> Trie:
        trie = self._tries.get(space)
        if trie is None:
            trie = Trie(self.transaction, int(space), self.index.spaces[space], self.index.deep)
            self._tries[space] = trie
        return trie

    def get(self, space: Space, key: bytes) -> bytes | None:
        """The row as the index holds it: of BODIES the place."""
        if 0 < len(key) < STEP:
            value: bytes | None = self.transaction.get(key, db=self.index.spaces[space])
            return value
        return self._trie(space).get(key)

    def put(self, space: Space, key: bytes, value: bytes) -> None:
        """Set a row."""
        if len(key) < STEP:
            self.transaction.put(key, value, db=self.index.spaces[space])
        else:
            self._trie(space).put(key, value)

    def delete(self, space: Space, key: bytes) -> None:
        """Remove a row if it is there."""
        if len(key) < STEP:
            self.transaction.delete(key, db=self.index.spaces[space])
        else:
            self._trie(space).delete(key)

    def scan(
        self, space: Space, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """As Reader.scan; of BODIES the places."""
        return self._trie(space).scan(start, end, limit, reverse=reverse)

    def holds_prefix(self, space: Space, prefix: bytes) -> bool:
        """Whether a row's key starts with `prefix`."""
        return self._trie(space).holds_prefix(prefix)

    def place(self, key: bytes) -> Place | None:
        """Where a body lies."""
        raw = self.get(Space.BODIES, key)
        return None if raw is None else Place.unpack(raw)

    def applied(self) -> Position:
        """How far this transaction follows the log."""
        raw = self.transaction.get(b"applied", db=self.index.catalog)
        return Position._make(_POSITION.unpack(raw))

    def set_applied(self, position: Position) -> None:
        """Say how far this transaction follows the log."""
        self.transaction.put(b"applied", _POSITION.pack(*position), db=self.index.catalog)

    def tally(self, file: int) -> Tally:
        """A log file's tally; zeros if it has none."""
        raw = self.transaction.get(_FILE.pack(file), db=self.index.files)
        return Tally(0, 0, 0, 0) if raw is None else Tally.unpack(raw)

    def tallies(self) -> dict[int, Tally]:
        """All files' tallies by file number."""
        return {
            _FILE.unpack(key)[0]: Tally.unpack(raw)
            for key, raw in self.transaction.cursor(self.index.files)
        }

    def set_tally(self, file: int, tally: Tally) -> None:
        """Set a log file's tally."""
        self.transaction.put(_FILE.pack(file), _TALLY.pack(*tally), db=self.index.files)

    def forget_file(self, file: int) -> None:
        """Remove a log file's tally."""
        self.transaction.delete(_FILE.pack(file), db=self.index.files)


class StateFile:
    """Whether the index may be trusted.

    `clean CRC` after an orderly end, with the CRC-32C of the index's file; else `open BOOT STARTS`:
    the boot id of the machine's run that writes, and how many starts before ended at once. One that
    is damaged may end the process wherever it is read, so the third start makes it again.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path, self.disk = path, disk
        self._boot = ""

    def begin(self, boot: str, index: Path) -> bool:
        """A writer starts; whether what the last one left in `index` is whole."""
        trusted, starts = self._look(boot, index)
        self._boot = boot or "unknown"
        self._write(f"open {self._boot} {starts + 1 if trusted else 0}")
        return trusted

    def _look(self, boot: str, index: Path) -> tuple[bool, int]:
        try:
            words = self.path.read_text(encoding="ascii").split()
            match words:
                case ["clean"]:  # written by 0.1
                    return index.exists(), 0
                case ["clean", checksum]:
                    return int(checksum, 16) == file_checksum(index), 0
                case ["open", name, *starts] if boot and name == boot:
                    count = int(starts[0]) if starts else 0
                    return index.exists() and count < STARTS_MAX, count
        except (OSError, ValueError):
            pass
        return False, 0

    def settle(self) -> None:
        """This start did not end at once."""
        self._write(f"open {self._boot} 0")

    def end(self, index: Path) -> None:
        """The writer ended in order, and `index` is on stable storage."""
        self._write(f"clean {file_checksum(index):08x}")

    def distrust(self) -> None:
        """The index is damaged: the next start makes it again."""
        self._write("damaged")

    def _write(self, text: str) -> None:
        """Replace the file durably: `clean` must never outlive the next writer's first change."""
        self.disk.write_file(self.path, f"{text}\n".encode("ascii"))


def file_checksum(path: Path) -> int:
    """CRC-32C of a file: some 5 GB/s once it is in memory. Raises OSError."""
    checksum = at = 0
    with path.open("rb", buffering=0) as file:
        while True:
            read_ahead(file.fileno(), _COPY_BYTES, at)
            some = file.read(_COPY_BYTES)
            if not some:
                return checksum
            checksum = google_crc32c.extend(checksum, some)
            at += len(some)
