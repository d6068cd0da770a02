"""Manifests: what an object is made of, in DAG-CBOR; the root's CID is the object's fid.

A manifest commits to the length, the owner, the cipher, every key and every fragment, and tells
nothing of where they lie. Nodes have at most 1 MiB, whatever the object. Pure. See
docs/specs/manifest.md.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from blake3 import blake3

from chain import dagcbor
from chain.cids import BLAKE3, DAG_CBOR, Cid, InvalidCid
from chain.ids import ID_BYTES, FragmentId
from gateway.seal import CHUNK, SEGMENT_CHUNKS_MAX, TAG, chunk_count, sealed_size
from miner.segments import Profile, Segment

NODE_MAX = 1 << 20
STREAMS_MAX = 10_000  # parts of a multipart upload
SHARDS_MAX = 32
# Fixed counts, not byte counts: one object has one manifest. 512 segments of 32 ids are 531 KB.
SEGMENTS_INLINE = 32
SEGMENTS_PER_PAGE = 512
STREAMS_PER_PAGE = 16
STREAM_SIZE_MAX = 5 << 30
_CIPHER = {"name": "aes-256-gcm-stream", "chunk": CHUNK}


class InvalidManifest(ValueError):
    """Not a manifest of this format, or one that contradicts itself."""


class StreamManifest(msgspec.Struct, frozen=True):
    """One stream: the digest of its sealed body, or its segments of one profile."""

    size: int
    commitment: bytes
    body: bytes | None = None  # BLAKE3-256 of an inline stream's sealed bytes
    segments: tuple[Segment, ...] = ()


class Manifest(msgspec.Struct, frozen=True):
    """An object: its owner's public encryption key and its streams in order."""

    owner: bytes
    streams: tuple[StreamManifest, ...]

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return sum(stream.size for stream in self.streams)


Node = tuple[bytes, bytes]  # binary CID, bytes
T = TypeVar("T")


class ManifestBuilder:
    """Composes a manifest stream by stream; of what was added it keeps 16 streams and page links.

    `keep` gets each node as soon as it is complete, the root last.
    """

    def __init__(self, owner: bytes, keep: Callable[[Node], None] = lambda _: None) -> None:
        self._owner = owner
        self._keep = keep
        self._size = 0
        self._entries: list[dict[str, Any]] = []
        self._pages: list[bytes] = []

    def add(self, stream: StreamManifest) -> None:
        """The next stream."""
        # A full page is closed by the stream behind it: one page's streams stand in the root.
        if len(self._entries) == STREAMS_PER_PAGE:
            self._close_page()
        self._entries.append(_stream(stream, self._keep))
        self._size += stream.size

    def finish(self) -> bytes:
        """The binary CID of the root: the fid."""
        root: dict[str, Any] = {
            "v": 1,
            "size": self._size,
            "owner": self._owner,
            "cipher": _CIPHER,
        }
        if self._pages:
            self._close_page()
            root["pages"] = self._pages
        else:
            root["streams"] = self._entries
        return _add(root, self._keep)

    def _close_page(self) -> None:
        self._pages.append(_add(self._entries, self._keep))
        self._entries = []


def build(manifest: Manifest) -> list[Node]:
    """Every node, root last; its CID is the fid."""
    nodes: list[Node] = []
    builder = ManifestBuilder(manifest.owner, nodes.append)
    for stream in manifest.streams:
        builder.add(stream)
    builder.finish()
    return nodes


def fid(manifest: Manifest) -> bytes:
    """The binary CID of the manifest's root."""
    builder = ManifestBuilder(manifest.owner)
    for stream in manifest.streams:
        builder.add(stream)
    return builder.finish()


def load(root: bytes, fetch: Callable[[bytes], bytes]) -> Manifest:
    """Read a manifest back. `fetch` gives the bytes of a binary CID; each is checked against it.

    Raises InvalidManifest.
    """
    node = _node(root, fetch)
    _keys(node, {"v", "size", "owner", "cipher"}, {"streams", "pages"})
    if node["v"] != 1 or node["cipher"] != _CIPHER:
        raise InvalidManifest("another version or cipher")
    owner = _bytes(node["owner"], 32)
    entries = _list(node.get("streams"), STREAMS_PER_PAGE) if "streams" in node else []
    if "pages" in node:
        pages = _list(node["pages"], -(-STREAMS_MAX // STREAMS_PER_PAGE))
        entries = _join(pages, STREAMS_PER_PAGE, fetch)
        if len(entries) <= STREAMS_PER_PAGE:
            raise InvalidManifest("few streams stand in the root")
    if not 1 <= len(entries) <= STREAMS_MAX:
        raise InvalidManifest("an object has 1 to 10,000 streams")
    manifest = Manifest(owner, tuple(_read_stream(entry, fetch) for entry in entries))
    if node["size"] != manifest.size or isinstance(node["size"], bool):
        raise InvalidManifest("the streams have another size than the object")
    return manifest


def _stream(stream: StreamManifest, keep: Callable[[Node], None]) -> dict[str, Any]:
    entry: dict[str, Any] = {"size": stream.size, "key": stream.commitment}
    if stream.body is not None:
        return entry | {"body": stream.body}
    profile = stream.segments[0].profile
    segments = [[s.length, b"".join(s.fragments)] for s in stream.segments]
    entry["code"] = [profile.k, profile.m]
    if len(segments) <= SEGMENTS_INLINE:
        entry["segments"] = segments
    else:
        entry["pages"] = [_add(page, keep) for page in _pages(segments, SEGMENTS_PER_PAGE)]
    return entry


def _read_stream(entry: Any, fetch: Callable[[bytes], bytes]) -> StreamManifest:
    if isinstance(entry, dict) and "body" in entry:
        _keys(entry, {"size", "key", "body"}, set())
        size = _int(entry["size"], 0, CHUNK)
        return StreamManifest(size, _bytes(entry["key"], 32), _bytes(entry["body"], 32))
    _keys(entry, {"size", "key", "code"}, {"segments", "pages"})
    size = _int(entry["size"], 0, STREAM_SIZE_MAX)
    code = _list(entry["code"], 2)
    if len(code) != 2:
        raise InvalidManifest("a code is [k, m]")
    profile = Profile("", _int(code[0], 1, SHARDS_MAX), _int(code[1], 0, SHARDS_MAX))
    if profile.n > SHARDS_MAX:
        raise InvalidManifest("too many shards")
    if "segments" in entry:
        raw = _list(entry["segments"], SEGMENTS_INLINE)
    else:
        raw = _join(_list(entry["pages"], chunk_count(STREAM_SIZE_MAX)), SEGMENTS_PER_PAGE, fetch)
        if len(raw) <= SEGMENTS_INLINE:
            raise InvalidManifest("few segments stand with their stream")
    segments = tuple(_read_segment(item, profile) for item in raw)
    _check_lengths(size, segments)
    return StreamManifest(size, _bytes(entry["key"], 32), None, segments)


def _read_segment(item: Any, profile: Profile) -> Segment:
    pair = _list(item, 2)
    if len(pair) != 2:
        raise InvalidManifest("a segment is [length, ids]")
    length = _int(pair[0], TAG, SEGMENT_CHUNKS_MAX * (CHUNK + TAG))
    ids = _bytes(pair[1], ID_BYTES * profile.n)
    return Segment(
        profile,
        length,
        tuple(FragmentId(ids[i : i + ID_BYTES]) for i in range(0, len(ids), ID_BYTES)),
    )


def _check_lengths(size: int, segments: Sequence[Segment]) -> None:
    """All but the last hold the same number of whole chunks; together they hold `size` bytes."""
    if not segments or sum(s.length for s in segments) != sealed_size(size):
        raise InvalidManifest("the segments have another size than their stream")
    whole = segments[0].length
    if len(segments) > 1 and (
        whole % (CHUNK + TAG)
        or any(s.length != whole for s in segments[:-1])
        or segments[-1].length > whole
    ):
        raise InvalidManifest("segments are cut unevenly")


def _add(value: Any, keep: Callable[[Node], None]) -> bytes:
    data = dagcbor.encode(value)
    assert len(data) <= NODE_MAX
    cid = Cid.of(DAG_CBOR, BLAKE3, blake3(data).digest()).raw
    keep((cid, data))
    return cid


def _node(cid: bytes, fetch: Callable[[bytes], bytes]) -> Any:
    try:
        parsed = Cid.from_bytes(cid)
        if parsed.codec != DAG_CBOR or parsed.hash_code != BLAKE3:
            raise InvalidManifest("not the CID of a manifest node")
    except InvalidCid as error:
        raise InvalidManifest(str(error)) from None
    data = fetch(cid)
    if len(data) > NODE_MAX:
        raise InvalidManifest("a node above 1 MiB")
    if not parsed.matches(data):
        raise InvalidManifest("a node is not what its CID says")
    try:
        return dagcbor.decode(data)
    except dagcbor.NotCanonical as error:
        raise InvalidManifest(str(error)) from None


def _join(pages: list[Any], per_page: int, fetch: Callable[[bytes], bytes]) -> list[Any]:
    items: list[Any] = []
    for number, cid in enumerate(pages):
        if not isinstance(cid, bytes):
            raise InvalidManifest("a page is a link")
        page = _list(_node(cid, fetch), per_page)
        if not page or (len(page) != per_page and number != len(pages) - 1):
            raise InvalidManifest("pages are cut unevenly")
        items += page
    return items


def _pages(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _keys(node: Any, needed: set[str], one_of: set[str]) -> None:
    if not isinstance(node, dict) or not needed <= node.keys():
        raise InvalidManifest("a field is missing")
    rest = node.keys() - needed
    if not rest <= one_of or len(rest) != bool(one_of):
        raise InvalidManifest("a field too many or too few")


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise InvalidManifest("not a list, or too long")
    return value


def _bytes(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise InvalidManifest(f"not {size} bytes")
    return value


def _int(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidManifest("a number out of bounds")
    return value
