"""UnixFS from bytes: how files become blocks, by which profile. Pure: bytes in, blocks out.

Profiles (IPIP-499): `unixfs-v1-2025` and `unixfs-v0-2015`; each setting of one can be changed, as
Kubo's `add` lets its callers do.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from blake3 import blake3

from chain.cids import BLAKE3, DAG_PB, IDENTITY, RAW, SHA2_256, SHA2_512, Cid
from chain.net.transport import Buffer
from gateway.ipfs.codecs import dagpb, directory, unixfs
from gateway.ipfs.codecs.dagpb import BLOCK_BYTES_MAX, Link
from gateway.ipfs.codecs.directory import Directory
from gateway.ipfs.codecs.unixfs import Balanced, Child, Data, Kind

# What a DAG-PB leaf has beside its bytes fits in here.
CHUNK_BYTES_MAX = BLOCK_BYTES_MAX - 256
WIDTH_MAX = 8192
INLINE_MAX = 128  # IPIP-512
HASHES = {"sha2-256": SHA2_256, "sha2-512": SHA2_512, "blake3": BLAKE3}


class BadSetting(ValueError):
    """A setting that no profile can have."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How bytes become blocks."""

    cid_version: int = 1
    raw_leaves: bool = True
    chunk_bytes: int = unixfs.LEAF_BYTES
    width: int = unixfs.WIDTH
    hash_code: int = SHA2_256
    inline_bytes: int = 0  # blocks up to this size are in their CIDs
    sharded_by_links: bool = False  # a directory's size is that of its names and CIDs

    def seal(self, codec: int, block: bytes) -> Cid:
        """The CID of a block."""
        if 0 < len(block) <= self.inline_bytes or (not block and self.inline_bytes):
            return Cid.of(codec, IDENTITY, block)
        match self.hash_code:
            case 0x13:
                digest = hashlib.sha512(block).digest()
            case 0x1E:
                digest = blake3(block).digest()
            case _:
                digest = hashlib.sha256(block).digest()
        if self.cid_version == 0 and codec == DAG_PB:
            return Cid(b"\x12\x20" + digest)
        return Cid.of(codec, self.hash_code, digest)

    def checked(self) -> "Profile":
        """This profile. Raises BadSetting."""
        if self.cid_version not in (0, 1):
            raise BadSetting("CID versions are 0 and 1")
        if self.cid_version == 0 and (self.hash_code != SHA2_256 or self.inline_bytes):
            raise BadSetting("CIDv0 only supports sha2-256")
        if not 1 <= self.chunk_bytes <= CHUNK_BYTES_MAX:
            raise BadSetting(f"a chunk has 1 to {CHUNK_BYTES_MAX} bytes")
        if not 2 <= self.width <= WIDTH_MAX:
            raise BadSetting(f"a node has 2 to {WIDTH_MAX} links")
        if not 0 <= self.inline_bytes <= INLINE_MAX:
            raise BadSetting(f"at most {INLINE_MAX} bytes are inlined")
        return self


V1_2025 = Profile()
V0_2015 = replace(
    V1_2025, cid_version=0, raw_leaves=False, chunk_bytes=256 << 10, width=174,
    sharded_by_links=True,
)  # fmt: skip
PROFILES = {"unixfs-v1-2025": V1_2025, "unixfs-v0-2015": V0_2015}


@dataclass(frozen=True, slots=True)
class Metadata:
    """Optional attributes of a file, directory or symlink (UnixFS 1.5)."""

    mode: int | None = None
    mtime: tuple[int, int] | None = None


NO_METADATA = Metadata()


class FileImporter:
    """One file. Holds a chunk beyond what was fed, and the links of unfinished nodes."""

    def __init__(self, profile: Profile = V1_2025, metadata: Metadata = NO_METADATA) -> None:
        self._profile = profile
        self._metadata = metadata
        self._pending = bytearray()
        self._nodes = Balanced(profile.width, profile.seal)
        self._leaves = 0
        self.size = 0
        self.link: Link | None = None  # once it is finished: a link without a name

    def feed(self, data: Buffer) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that `data` completes."""
        self._pending += data
        self.size += len(data)
        chunk = self._profile.chunk_bytes
        # The last chunk waits for the end: where it is the only one it may need the attributes.
        while len(self._pending) > chunk:
            yield from self._leaf(bytes(self._pending[:chunk]))
            del self._pending[:chunk]

    def keep(self, leaf: Child) -> Iterator[tuple[Cid, bytes]]:
        """Put a raw leaf of a chunk's size here that is stored already; the blocks it completes.

        What was fed before ends with a whole chunk, and a leaf that is shorter is the last. The
        file has more leaves than this one.
        """
        if self._pending:
            assert len(self._pending) == self._profile.chunk_bytes
            yield from self._leaf(bytes(self._pending))
            self._pending.clear()
        self.size += leaf.size
        self._leaves += 1
        yield from self._nodes.add(leaf)

    def finish(self) -> Iterator[tuple[Cid, bytes]]:
        """The other blocks; `link` is known behind them."""
        last = bytes(self._pending)
        if self._leaves == 0 and (not self._profile.raw_leaves or self._metadata != NO_METADATA):
            root, block = self._wrapped(last, self._metadata)
            self.link = Link(root.cid, "", root.total)
            yield root.cid, block
            return
        only = self._leaves == 0
        for cid, block in self._leaf(last) if last or only else ():
            if only:
                self.link = Link(cid, "", len(block))
            yield cid, block
        for root, block in self._nodes.finish(self._metadata.mode, self._metadata.mtime):
            self.link = Link(root.cid, "", root.total)
            yield root.cid, block

    def _leaf(self, data: bytes) -> Iterator[tuple[Cid, bytes]]:
        if self._profile.raw_leaves:
            block = data
            leaf = Child(self._profile.seal(RAW, data), len(data), len(data))
        else:
            leaf, block = self._wrapped(data, NO_METADATA)
        self._leaves += 1
        yield leaf.cid, block
        yield from self._nodes.add(leaf)

    def _wrapped(self, data: bytes, metadata: Metadata) -> tuple[Child, bytes]:
        """A leaf in a DAG-PB node."""
        message = Data(Kind.FILE, data or None, len(data), mode=metadata.mode, mtime=metadata.mtime)
        block = dagpb.encode((), unixfs.encode(message))
        return Child(self._profile.seal(DAG_PB, block), len(data), len(block)), block


def symlink(
    target: str, profile: Profile = V1_2025, metadata: Metadata = NO_METADATA
) -> tuple[Link, bytes]:
    """A symlink's block, and a link to it without a name."""
    text = target.encode("utf-8", "surrogateescape")
    data = Data(Kind.SYMLINK, text, mode=metadata.mode, mtime=metadata.mtime)
    block = dagpb.encode((), unixfs.encode(data))
    return Link(profile.seal(DAG_PB, block), "", len(block)), block


class NotADirectory(ValueError):
    """A file lies where a directory is needed, or the other way round."""


class Tree:
    """Files by their paths, gathered to directories. Holds a link for each entry."""

    def __init__(self, profile: Profile = V1_2025) -> None:
        self._profile = profile
        self._top = _Folder()

    def put(self, path: Sequence[str], link: Link) -> None:
        """Put a file (a link to it) at a path, in place of one there. Raises NotADirectory."""
        folder = self._folder(path[:-1])
        if path[-1] in folder.folders:
            raise NotADirectory("/".join(path))
        folder.files[path[-1]] = link._replace(name=path[-1])

    def folder(self, path: Sequence[str], metadata: Metadata = NO_METADATA) -> None:
        """Have a directory at a path, empty or not. Raises NotADirectory."""
        folder = self._folder(path)
        if metadata != NO_METADATA:
            folder.metadata = metadata

    def finish(self, *, top: bool) -> Iterator[tuple[tuple[str, ...], Directory]]:
        """(path, directory) from below; `top`: also the one that holds all others."""
        yield from self._finish(self._top, (), top=top)

    def __bool__(self) -> bool:
        """Whether anything was put in."""
        return bool(self._top.files or self._top.folders)

    @property
    def entries(self) -> list[Link]:
        """The files beside all directories."""
        return list(self._top.files.values())

    def _folder(self, path: Sequence[str]) -> "_Folder":
        folder = self._top
        for name in path:
            if name in folder.files:
                raise NotADirectory("/".join(path))
            folder = folder.folders.setdefault(name, _Folder())
        return folder

    def _finish(
        self, folder: "_Folder", path: tuple[str, ...], *, top: bool
    ) -> Iterator[tuple[tuple[str, ...], Directory]]:
        links = list(folder.files.values())
        for name, below in folder.folders.items():
            for place, built in self._finish(below, (*path, name), top=True):
                yield place, built
            links.append(Link(built.root, name, built.total))
        if top:
            form = directory.Form(
                lambda block: self._profile.seal(DAG_PB, block),
                self._profile.sharded_by_links,
                folder.metadata.mode,
                folder.metadata.mtime,
            )
            yield path, directory.build(links, form)


class _Folder:
    """A directory being gathered."""

    __slots__ = ("files", "folders", "metadata")

    def __init__(self) -> None:
        self.files: dict[str, Link] = {}
        self.folders: dict[str, _Folder] = {}
        self.metadata = NO_METADATA
