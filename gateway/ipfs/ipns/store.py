"""The IPNS records that this network serves: docs/specs/ipns.md.

A record replaces an older one only. Names are known by an import or a key of this network's own;
of a known name anyone may bring a newer record, since only its key can have signed it.
"""

from dataclasses import dataclass

import msgspec

from chain.clock import Clock
from gateway.catalog.interface import Batch, Catalog, Conflict, Equals, Put, Reader, Space
from gateway.ipfs.index import rows
from gateway.ipfs.ipns import record
from gateway.ipfs.ipns.name import IpnsName
from gateway.ipfs.ipns.record import InvalidRecord, IpnsRecord
from gateway.records import CorruptRecord

PREFIX = b"\x04"
_ATTEMPTS = 16


class OldRecord(Exception):
    """A newer record of the name is kept already."""


class UnknownName(Exception):
    """Nobody brought a record of the name here yet."""


class RecordRow(msgspec.Struct, frozen=True, array_like=True):
    """Row 04 ‖ multihash of the name."""

    record: bytes
    received_ns: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A record and when it came."""

    record: IpnsRecord
    received_ns: int


class IpnsRecords:
    """The records of one network."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    def get(self, name: IpnsName) -> IpnsRecord | None:
        """The name's record, if it is known and lives."""
        with self._catalog.read() as reader:
            raw = reader.get(Space.BLOCKS, row_key(name))
        kept = None if raw is None else kept_record(raw, name)
        if kept is None or kept.record.eol_ns <= self._clock.now_ns():
            return None
        return kept.record

    async def put(self, name: IpnsName, raw: bytes, *, known_only: bool = False) -> IpnsRecord:
        """Keep a record of the name, unless it is older than the one that is kept.

        The same record again changes nothing. Raises InvalidRecord, OldRecord, UnknownName
        (`known_only`), CatalogUnavailable.
        """
        for _ in range(_ATTEMPTS):
            now = self._clock.now_ns()
            fresh = record.parse(raw, name, now)
            with self._catalog.read() as reader:
                before = reader.get(Space.BLOCKS, row_key(name))
                if before is None and known_only:
                    raise UnknownName(str(name))
            old = None if before is None else kept_record(before, name)
            if old is not None and old.record.raw == raw:
                return fresh
            if old is not None and not fresh.newer_than(old.record):
                raise OldRecord(str(name))
            conditions, changes = [unchanged(name, before)], [put_row(name, fresh, now)]
            try:
                await self._catalog.commit(Batch(conditions, changes))
            except Conflict:
                continue
            return fresh
        raise OldRecord(str(name))


def row_key(name: IpnsName) -> bytes:
    """The key of a name's row."""
    return PREFIX + name.multihash


def unchanged(name: IpnsName, before: bytes | None) -> Equals:
    """The condition that nobody changed the name's row."""
    return Equals(Space.BLOCKS, row_key(name), before)


def put_row(name: IpnsName, record: IpnsRecord, now_ns: int) -> Put:
    """The change that keeps a record."""
    row = RecordRow(record.raw, now_ns)
    return Put(Space.BLOCKS, row_key(name), rows.FORMAT + msgspec.msgpack.encode(row))


def current(reader: Reader, name: IpnsName) -> tuple[bytes | None, IpnsRecord | None]:
    """(the row as it is, its record, dead ones too)."""
    raw = reader.get(Space.BLOCKS, row_key(name))
    return raw, None if raw is None else kept_record(raw, name).record


def kept_record(value: bytes, name: IpnsName) -> Kept:
    """A row's record. Raises CorruptRecord."""
    if value[:1] != rows.FORMAT:
        raise CorruptRecord(f"IPNS record of unknown format {value[:1].hex()}")
    try:
        row = msgspec.msgpack.decode(memoryview(value)[1:], type=RecordRow)
        return Kept(record.verified(row.record, name), row.received_ns)
    except (msgspec.MsgspecError, InvalidRecord) as error:
        raise CorruptRecord(f"IPNS record: {error}") from None
