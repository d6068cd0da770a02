"""What a segment is, and the one face through which sealed bytes are read.

`SegmentSource` is stacked: a gateway asks an edge's cache, which asks the storage pool; each has
this same face. See docs/specs/segment.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from chain.ids import FragmentId, SegmentId
from chain.net.transport import Buffer


@dataclass(frozen=True, slots=True)
class Profile:
    """An erasure code: any `k` of the `k + m` fragments restore a segment."""

    name: str
    k: int
    m: int

    @property
    def n(self) -> int:
        """Fragments of a segment."""
        return self.k + self.m

    @property
    def quorum(self) -> int:
        """Fragments that must be on stable storage before a write is acknowledged."""
        return self.k + (self.m + 1) // 2


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("cess", 4, 8),
        Profile("standard", 8, 4),
        Profile("wide", 16, 4),
        Profile("small", 4, 2),
        Profile("mirror", 1, 2),
    )
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment as its manifest names it.

    `length` bytes of ciphertext are cut in `profile.k` contiguous data shards of `shard_bytes`
    (the last one zero-filled up to it); `fragments` holds the ids of all `profile.n` shards,
    data first.
    """

    profile: Profile
    length: int
    fragments: tuple[FragmentId, ...]

    @property
    def id(self) -> SegmentId:
        return segment_id(self.fragments)

    @property
    def shard_bytes(self) -> int:
        return shard_bytes(self.length, self.profile.k)

    @property
    def stored_bytes(self) -> int:
        """Bytes at the miners: all fragments, parity and filling included."""
        return self.profile.n * self.shard_bytes


def shard_bytes(length: int, k: int) -> int:
    """Bytes of each fragment of a segment of `length` bytes: rounded up to whole shards."""
    return -(-length // k)


def segment_id(fragments: Sequence[FragmentId]) -> SegmentId:
    """BLAKE3-256 over the fragment ids in order."""
    return SegmentId(blake3(b"".join(fragments)).digest())


class SegmentUnavailable(Exception):
    """Fewer than k fragments of the segment can be read now."""


# Told of a range by its number, and of its bytes.
Arrived = Callable[[int, Buffer], None]


class SegmentSource(Protocol):
    """Something that can read ranges of a sealed segment."""

    async def read(
        self,
        segment: Segment,
        ranges: Sequence[tuple[int, int]],
        *,
        verify: bool = False,
        arrived: Arrived | None = None,
    ) -> list[Buffer]:
        """Return the bytes [start, end) of each range of the ciphertext, in order.

        `arrived` may hear of some of them before all are there; never twice of one.

        Reads only the shards that the ranges touch. The caller's GCM tag is the integrity check;
        when it fails the caller asks again with `verify=True`: then every shard used is checked
        against its id, wrong ones are reported for repair and replaced by parity.
        Raises SegmentUnavailable.
        """
        ...
