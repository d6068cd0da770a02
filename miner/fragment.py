"""Fragments: their ids, their keys, and the record a miner keeps beside each (pure).

See docs/specs/fragment.md.
"""

import re
import struct
from dataclasses import dataclass
from typing import cast

from blake3 import blake3

from chain.cids import Cid
from chain.ids import ID_BYTES, FragmentId, SegmentId
from chain.net.transport import Buffer
from miner.segments import PROFILES, Profile, Segment

VERSION = 1
KEY_BYTES = ID_BYTES + 1
SEGMENT_MAX = 64 * 1024 * 1024
FRAGMENTS_MAX = 255
# version, k, m, index, segment length, bytes of the name
_HEAD = struct.Struct(">BBBBQB")
_NAME = re.compile(rb"[a-z0-9-]{1,32}\Z")


class InvalidFragment(ValueError):
    """The bytes or fields do not describe a fragment."""


def fragment_id(payload: Buffer) -> FragmentId:
    """BLAKE3-256 of the fragment's bytes (8.6 GB/s on one thread)."""
    return FragmentId(blake3(payload).digest())


def fragment_cid(fragment: FragmentId) -> Cid:
    """The id as people see it: CIDv1, raw, BLAKE3."""
    return Cid.of_fragment(fragment)


def fragment_key(segment: SegmentId, index: int) -> bytes:
    """segment id ‖ index: where a fragment lies is keyed by this."""
    assert len(segment) == ID_BYTES
    assert 0 <= index < FRAGMENTS_MAX
    return segment + bytes([index])


def split_key(key: bytes) -> tuple[SegmentId, int]:
    """The inverse of `fragment_key`."""
    assert len(key) == KEY_BYTES
    return SegmentId(key[:ID_BYTES]), key[ID_BYTES]


@dataclass(frozen=True, slots=True)
class FragmentRecord:
    """Fragment `index` of a segment, with all that is needed to find and rebuild its siblings."""

    segment: Segment
    index: int

    @property
    def key(self) -> bytes:
        return fragment_key(self.segment.id, self.index)

    @property
    def id(self) -> FragmentId:
        return self.segment.fragments[self.index]

    @property
    def size(self) -> int:
        """Bytes of the fragment."""
        return self.segment.shard_bytes

    def encode(self) -> bytes:
        """The record's bytes, version 1."""
        profile = self.segment.profile
        name = profile.name.encode()
        head = _HEAD.pack(VERSION, profile.k, profile.m, self.index, self.segment.length, len(name))
        return head + name + b"".join(self.segment.fragments)

    @classmethod
    def parse(cls, raw: bytes) -> "FragmentRecord":
        """Read a record strictly. Raises InvalidFragment."""
        if len(raw) < _HEAD.size:
            raise InvalidFragment("a fragment record is truncated")
        version, k, m, index, length, name_bytes = _HEAD.unpack_from(raw)
        if version != VERSION:
            raise InvalidFragment(f"fragment record version {version} is not known")
        name = raw[_HEAD.size : _HEAD.size + name_bytes]
        ids = raw[_HEAD.size + name_bytes :]
        if not _NAME.match(name) or len(name) != name_bytes:
            raise InvalidFragment("not a profile name")
        if len(ids) != ID_BYTES * (k + m):
            raise InvalidFragment("a fragment record has another length than it says")
        fragments = tuple(ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))
        return describe(Profile(name.decode(), k, m), length, fragments, index)


def describe(
    profile: Profile, length: int, fragments: tuple[bytes, ...], index: int
) -> FragmentRecord:
    """Check fields from outside and make the record of them. Raises InvalidFragment."""
    if not (profile.k >= 1 and profile.m >= 1 and profile.n <= FRAGMENTS_MAX):
        raise InvalidFragment("k and m are out of range")
    known = PROFILES.get(profile.name)
    if known != profile if known else not _NAME.match(profile.name.encode()):
        raise InvalidFragment(f"{profile.name!r:.40} is another profile")
    if not 1 <= length <= SEGMENT_MAX:
        raise InvalidFragment(f"a segment has 1..{SEGMENT_MAX} bytes")
    if len(fragments) != profile.n or set(map(len, fragments)) != {ID_BYTES}:
        raise InvalidFragment(f"a segment of this profile has {profile.n} ids of {ID_BYTES} bytes")
    if not 0 <= index < profile.n:
        raise InvalidFragment("the index is out of range")
    ids = cast("tuple[FragmentId, ...]", fragments)
    return FragmentRecord(Segment(known or profile, length, ids), index)
