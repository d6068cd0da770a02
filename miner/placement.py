"""Which miners get a segment's fragments, and the rows that say where they lie (pure).

See docs/specs/placement.md.
"""

import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from blake3 import blake3

from chain.ids import ID_BYTES, AccountId, SegmentId
from miner.fragment import FRAGMENTS_MAX, SEGMENT_MAX, InvalidFragment, describe
from miner.records import Row
from miner.segments import Profile, Segment

VERSION = 1
# Room on a miner below which it gets no fragment: the record and its blocks beside the bytes.
RECORD_ROOM = 16 * 1024
SEED_BYTES = 16
_CROWDED, _MISSING, _AWAY = 1, 2, 4
# What is to be said of a miner that stands, is away, or is lost: see `holders_differ`.
STANDS, STANDS_AWAY, STANDS_LOST = 0, _AWAY, -1
# Instead of a margin: nothing is missing, but fragments are crowded. No margin is so large.
CROWDED_LEVEL = 0xFF
_HEAD = struct.Struct(">BBBB")
_TAIL = struct.Struct(">QI")
_RELEASE = struct.Struct(">BQ")
_NOBODY = bytes(ID_BYTES)
_NAME = re.compile(rb"[a-z0-9-]{1,32}\Z")


class InvalidPlacement(ValueError):
    """The bytes are no placement, repair or release row."""


@dataclass(frozen=True, slots=True)
class MinerInfo:
    """A miner as the ledger or a configuration names it.

    `domain` is what fails together (operator/host/disk; on one host, the miner). A `lost` miner
    will not come back: nothing is written to it, read from it or asked of it. One that is `away`
    was silent for longer than the grace of repair: it gets nothing new, and what it holds is
    rebuilt elsewhere unless it shows itself again.
    """

    id: AccountId
    address: str
    domain: str
    free_bytes: int
    lost: bool = False
    away: bool = False

    @property
    def gone(self) -> bool:
        """Whether to do without it: away or lost."""
        return self.lost or self.away


class MinerDirectory(Protocol):
    """Who the miners are."""

    def all(self) -> Sequence[MinerInfo]:
        """Every known miner, lost ones included, in a stable order."""
        ...

    def get(self, miner: AccountId) -> MinerInfo | None:
        """One miner; None when it was never heard of."""
        ...


class Choice(NamedTuple):
    """Miners of distinct domains, best first, and who could stand in."""

    chosen: list[MinerInfo]
    spares: list[MinerInfo]


def choose(miners: Iterable[MinerInfo], count: int, size: int, seed: bytes) -> Choice:
    """Up to `count` miners with room for `size` bytes, no two of one domain."""
    ranked = sorted(
        (miner for miner in miners if miner.free_bytes >= size and not miner.gone),
        key=lambda miner: rank(miner, seed),
    )
    chosen: list[MinerInfo] = []
    spares: list[MinerInfo] = []
    domains: set[str] = set()
    for miner in ranked:
        if len(chosen) < count and miner.domain not in domains:
            chosen.append(miner)
            domains.add(miner.domain)
        else:
            spares.append(miner)
    return Choice(chosen, spares)


def rank(miner: MinerInfo, seed: bytes) -> tuple[float, bytes]:
    """Sorts miners by weighted rendezvous, best first: a miner's share is as its free space."""
    bits = int.from_bytes(blake3(seed + miner.id).digest(7), "big") >> 3
    return max(1, miner.free_bytes) / math.log((bits + 0.5) / 2.0**53), miner.id


class Holder(NamedTuple):
    """Where one fragment is: nowhere when `miner` is None.

    `crowded`: another fragment of the segment lies in the same failure domain. `away`: the miner is
    silent for long; the fragment is to be rebuilt, and until that is done it may be read here.
    """

    miner: AccountId | None
    crowded: bool = False
    away: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the fragments of a segment lie; `revision` counts its changes."""

    segment: Segment
    holders: tuple[Holder, ...]
    revision: int = 0

    @property
    def missing(self) -> list[int]:
        """Indices that no miner holds."""
        return [i for i, holder in enumerate(self.holders) if holder.miner is None]

    @property
    def wanted(self) -> list[int]:
        """Indices to rebuild: missing, or at a miner that is away."""
        return [i for i, holder in enumerate(self.holders) if holder.miner is None or holder.away]

    @property
    def crowded(self) -> list[int]:
        """Indices that share their failure domain with another fragment."""
        return [i for i, holder in enumerate(self.holders) if holder.crowded]

    @property
    def margin(self) -> int:
        """Fragments that may still be lost."""
        return max(0, len(self.holders) - len(self.wanted) - self.segment.profile.k)

    def moved(self, changes: Mapping[int, Holder]) -> "Placement":
        """The next revision, with other holders for some indices."""
        holders = tuple(changes.get(i, holder) for i, holder in enumerate(self.holders))
        return replace(self, holders=holders, revision=self.revision + 1)

    def encode(self) -> bytes:
        """The row's value."""
        profile = self.segment.profile
        name = profile.name.encode()
        assert len(self.holders) == profile.n
        holders = b"".join(
            bytes(
                [
                    _CROWDED * holder.crowded
                    + _MISSING * (holder.miner is None)
                    + _AWAY * holder.away
                ]
            )
            + (holder.miner or _NOBODY)
            for holder in self.holders
        )
        return (
            _HEAD.pack(VERSION, profile.k, profile.m, len(name))
            + name
            + _TAIL.pack(self.segment.length, self.revision)
            + b"".join(self.segment.fragments)
            + holders
        )

    @classmethod
    def parse(cls, raw: bytes) -> "Placement":
        """Read a row strictly. Raises InvalidPlacement."""
        if len(raw) < _HEAD.size:
            raise InvalidPlacement("a placement is truncated")
        version, k, m, name_bytes = _HEAD.unpack_from(raw)
        at = _HEAD.size + name_bytes
        if version != VERSION:
            raise InvalidPlacement(f"placement version {version} is not known")
        if len(raw) != at + _TAIL.size + (k + m) * (2 * ID_BYTES + 1):
            raise InvalidPlacement("a placement has another length than it says")
        name = raw[_HEAD.size : at]
        if not _NAME.match(name):
            raise InvalidPlacement("not a profile name")
        length, revision = _TAIL.unpack_from(raw, at)
        at += _TAIL.size
        ids = tuple(raw[i : i + ID_BYTES] for i in range(at, at + (k + m) * ID_BYTES, ID_BYTES))
        at += (k + m) * ID_BYTES
        step = ID_BYTES + 1
        holders = tuple(_holder(raw[i : i + step]) for i in range(at, len(raw), step))
        try:
            record = describe(Profile(name.decode(), k, m), length, ids, 0)
        except InvalidFragment as error:
            raise InvalidPlacement(str(error)) from None
        return cls(record.segment, holders, revision)


def _holder(raw: bytes) -> Holder:
    flags, miner = raw[0], raw[1:]
    if flags > (_CROWDED | _AWAY) or (flags & _MISSING and (flags != _MISSING or miner != _NOBODY)):
        raise InvalidPlacement("not the place of a fragment")
    if flags & _MISSING:
        return Holder(None)
    return Holder(AccountId(miner), bool(flags & _CROWDED), bool(flags & _AWAY))


def holders_differ(raw: bytes, standing: Mapping[AccountId, int], unknown: int) -> bool:
    """Whether a placement row says of a miner something else than its `standing`.

    That is STANDS, STANDS_AWAY or STANDS_LOST; `unknown` that of a miner it does not name. 2 µs a
    row, where parsing it takes 25: a survey looks at every row there is.
    """
    step = ID_BYTES + 1
    count = raw[1] + raw[2] if len(raw) > _HEAD.size else 0
    for at in range(len(raw) - step * count, len(raw), step):
        flags, miner = raw[at], AccountId(raw[at + 1 : at + step])
        if not flags & _MISSING and standing.get(miner, unknown) != flags & _AWAY:
            return True
    return False


def domain_of(miner: AccountId, directory: MinerDirectory) -> str:
    """What the miner fails together with; one that nobody knows is alone."""
    info = directory.get(miner)
    return miner.hex() if info is None else info.domain


def placement_rows(placement: Placement, before: Placement | None = None) -> list[Row]:
    """Put a placement and keep its repair row right; `before` is what it replaces."""
    segment = placement.segment.id
    rows = [Row("placement", segment, placement.encode())]
    old = repair_row(before) if before is not None else None
    new = repair_row(placement)
    if old is not None and (new is None or old.key != new.key):
        rows.append(Row("repairs", old.key, None))
    if new is not None:
        rows.append(new)
    return rows


def repair_row(placement: Placement) -> Row | None:
    """What the repair queue says of a segment; None: it is whole and nothing is crowded."""
    if wanted := placement.wanted:
        return Row("repairs", bytes([placement.margin]) + placement.segment.id, bytes(wanted))
    if crowded := placement.crowded:
        return Row("repairs", bytes([CROWDED_LEVEL]) + placement.segment.id, bytes(crowded))
    return None


def parse_repair(key: bytes, value: bytes) -> tuple[int, SegmentId, list[int]]:
    """(margin or CROWDED_LEVEL, segment, indices). Raises InvalidPlacement."""
    indices = list(value)
    if len(key) != ID_BYTES + 1 or not indices or indices != sorted(set(indices)):
        raise InvalidPlacement("not a repair row")
    return key[0], SegmentId(key[1:]), indices


def released_rows(placement: Placement) -> list[Row]:
    """Take a placement away and queue its fragments for deletion."""
    segment = placement.segment.id
    held = [
        (index, holder.miner)
        for index, holder in enumerate(placement.holders)
        if holder.miner is not None
    ]
    rows = [Row("placement", segment, None)]
    if (repair := repair_row(placement)) is not None:
        rows.append(Row("repairs", repair.key, None))
    if held:
        size = placement.segment.shard_bytes
        rows.append(Row("releases", segment, encode_release(size, held)))
    return rows


def encode_release(size: int, held: Sequence[tuple[int, AccountId]]) -> bytes:
    """A release row's value: the bytes of each fragment, and (index, miner) of those to drop."""
    head = _RELEASE.pack(VERSION, size)
    return head + b"".join(bytes([index]) + miner for index, miner in held)


def parse_release(raw: bytes) -> tuple[int, list[tuple[int, AccountId]]]:
    """The inverse of `encode_release`. Raises InvalidPlacement."""
    step, start = ID_BYTES + 1, _RELEASE.size
    count, rest = divmod(len(raw) - start, step)
    if rest or not 0 < count <= FRAGMENTS_MAX or raw[0] != VERSION:
        raise InvalidPlacement("not a release row")
    _, size = _RELEASE.unpack_from(raw)
    if not 1 <= size <= SEGMENT_MAX:
        raise InvalidPlacement(f"no fragment has {size} bytes")
    held = [(raw[at], AccountId(raw[at + 1 : at + step])) for at in range(start, len(raw), step)]
    if len({index for index, _ in held}) != count:
        raise InvalidPlacement("a release names a fragment twice")
    return size, held


def encode_released(size: int) -> bytes:
    """A `released` row's value: bytes that the ledger was not told of yet."""
    return size.to_bytes(8, "big")


def parse_released(raw: bytes) -> int:
    """The inverse of `encode_released`. Raises InvalidPlacement."""
    if len(raw) != 8:
        raise InvalidPlacement("not a count of released bytes")
    return int.from_bytes(raw, "big")
