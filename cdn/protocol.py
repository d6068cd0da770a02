"""The messages of the segment face. Limits and meaning: docs/specs/edge.md."""

from collections.abc import Sequence

import msgspec

from cdn.errors import bad_request
from chain.ids import ID_BYTES, FragmentId
from chain.net.transport import Message, Payload
from miner.segments import PROFILES, Segment

RANGES_MAX = 64
RANGE_BYTES_MAX = 8 << 20
ASK_BYTES_MAX = 48 << 20  # one reply; under the wire's 64 MiB
SEGMENT_BYTES_MAX = 33 << 20


class SegmentRanges(msgspec.Struct, frozen=True, array_like=True):
    """The bytes of each range, in order."""

    ranges: list[Payload]


class ReadSegment(Message[SegmentRanges], frozen=True, array_like=True):
    """Ranges [start, end) of a sealed segment's ciphertext."""

    profile: str
    length: int
    fragments: bytes  # ids, 32 bytes each, data shards first
    ranges: list[tuple[int, int]]
    verify: bool = False


class EdgeState(msgspec.Struct, frozen=True, array_like=True):
    """What an edge holds and how it does."""

    ram_used: int
    ram_max: int
    disk_used: int
    disk_max: int
    disk_failures: int
    ram_hits: int
    disk_hits: int
    misses: int
    hit_bytes: int
    miss_bytes: int
    complaints: int


class EdgeStatus(Message[EdgeState], frozen=True, array_like=True):
    """Ask for an edge's counters."""


def read_message(segment: Segment, ranges: Sequence[tuple[int, int]], verify: bool) -> ReadSegment:
    """The message that asks for these ranges (within the limits above)."""
    return ReadSegment(
        segment.profile.name, segment.length, b"".join(segment.fragments), list(ranges), verify
    )


def parse_read(message: ReadSegment) -> Segment:
    """The segment a message names. Raises RemoteError(BadRequest) if it breaks a limit."""
    profile = PROFILES.get(message.profile)
    if profile is None:
        raise bad_request("no such profile")
    if len(message.fragments) != profile.n * ID_BYTES:
        raise bad_request(f"{profile.name} has {profile.n} fragment ids of {ID_BYTES} bytes")
    if not 0 < message.length <= SEGMENT_BYTES_MAX:
        raise bad_request("a segment has 1 byte to 33 MiB")
    if not 0 < len(message.ranges) <= RANGES_MAX:
        raise bad_request(f"1 to {RANGES_MAX} ranges")
    total = 0
    for start, end in message.ranges:
        if not 0 <= start <= end <= message.length:
            raise bad_request("a range lies outside the segment")
        if end - start > RANGE_BYTES_MAX:
            raise bad_request(f"a range has at most {RANGE_BYTES_MAX} bytes")
        total += end - start
    if total > ASK_BYTES_MAX:
        raise bad_request(f"at most {ASK_BYTES_MAX} bytes at once")
    ids = message.fragments
    return Segment(
        profile,
        message.length,
        tuple(FragmentId(ids[at : at + ID_BYTES]) for at in range(0, len(ids), ID_BYTES)),
    )
