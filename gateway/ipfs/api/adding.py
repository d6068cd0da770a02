"""`add`: files and directories become UnixFS blocks, stored while they arrive.

Nothing is told of a file before its blocks are durable, but for progress.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from chain.cids import IDENTITY, Cid
from gateway.ipfs.api.call import Call, Lines, Reply
from gateway.ipfs.api.errors import TOLD, ApiError, BadCall
from gateway.ipfs.api.multipart import TARGET_BYTES_MAX, Part, PartKind, metadata, parts
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import cid_text, mfs_path
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.importer import (
    HASHES,
    PROFILES,
    V0_2015,
    V1_2025,
    BadSetting,
    FileImporter,
    Metadata,
    NotADirectory,
    Profile,
    Tree,
    symlink,
)
from gateway.ipfs.index import mfs
from gateway.ipfs.index.mfs import View
from gateway.model import Bucket

PROGRESS_BYTES = 256 << 10
BLOCKS_MAX = 4_000_000
_EVENTS = 256

Blocks = AsyncGenerator[tuple[Cid, bytes], None]
Event = dict[str, Any]


async def add(node: Node, call: Call) -> Reply:
    """Store what the body holds; a line for each file and directory."""
    adding = Adding(call)
    if call.flag("only-hash", "n"):
        return Lines(_only_hash(adding))
    return Lines(_stored(node, await node.bucket(call), adding))


async def _only_hash(adding: "Adding") -> AsyncGenerator[Event, None]:
    async with aclosing(adding.blocks()) as blocks:
        async for _ in blocks:
            pass
    for line in adding.lines:
        yield line


async def _stored(node: Node, bucket: Bucket, adding: "Adding") -> AsyncGenerator[Event, None]:
    if not adding.with_progress:
        await _store(node, bucket, adding)
    else:
        async with asyncio.TaskGroup() as group:
            storing = group.create_task(_store_and_say(node, bucket, adding))
            while (event := await adding.progress.get()) is not None:
                yield event
        if error := storing.result():
            raise error
    for line in adding.lines:
        yield line


async def _store_and_say(node: Node, bucket: Bucket, adding: "Adding") -> Exception | None:
    """What went wrong is returned: the group would wrap it."""
    try:
        await _store(node, bucket, adding)
    except TOLD as error:
        return error
    finally:
        await adding.progress.put(None)
    return None


async def _store(node: Node, bucket: Bucket, adding: "Adding") -> None:
    async with node.pins.hold(bucket):
        await node.packs.store_all(bucket, (), adding.blocks())
        if adding.pin:
            for link in adding.roots:
                await node.pins.add(bucket, link.cid, name=adding.pin_name)
        if adding.to_files:
            await _to_files(node, bucket, adding)


async def _to_files(node: Node, bucket: Bucket, adding: "Adding") -> None:
    """Put what was added in the bucket's tree too."""

    async def edit(view: View) -> None:
        for link in adding.roots:
            path = mfs_path(adding.to_files)
            if adding.to_files.endswith("/"):
                path = (*path, link.name or str(link.cid))
            await view.put(path, link)

    try:
        await node.mfs.change(bucket, edit)
    except (mfs.NotThere, mfs.NotADirectory) as error:
        raise ApiError(f"to-files: {error} is no directory") from None


class Adding:
    """One call of `add`: its body as blocks, and what is said of it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._profile = profile_of(call)
        self._wrap = call.flag("wrap-with-directory", "w")
        self.pin, self.pin_name = call.flag("pin", default=True), call.text("pin-name")
        self.to_files = call.text("to-files")
        self._silent = call.flag("silent")
        self._metadata = metadata_of(call)
        self._tree = Tree(self._profile)
        self._count = 0
        self.with_progress = call.flag("progress", "p") and not self._silent
        self.progress: asyncio.Queue[Event | None] = asyncio.Queue(_EVENTS)
        self.lines: list[Event] = []
        self.roots: list[Link] = []  # what was added: no file or directory is above them

    async def blocks(self) -> Blocks:
        """Every block, as the body arrives. Raises BadCall."""
        arriving: _Arriving | None = None
        async with aclosing(parts(self._call.content_type, self._call.body)) as events:
            async for event in events:
                if isinstance(event, Part):
                    arriving = _Arriving(event, self._profile, self._attributes(event))
                    continue
                assert arriving is not None
                for block in arriving.feed(event) if event else self._finished(arriving):
                    if self._counted(block):
                        yield block
                await self._progress(arriving, ended=event is None)
        for block in self._directories():
            if self._counted(block):
                yield block

    def _finished(self, arriving: "_Arriving") -> Iterator[tuple[Cid, bytes]]:
        """The last blocks of a part, which gets its place."""
        path = arriving.part.path
        yield from arriving.finish()
        try:
            if arriving.link is None:
                self._tree.folder(path, self._attributes(arriving.part))
                return
            name = "/".join(path) or cid_text(self._call, arriving.link.cid)
            self._tree.put(path or (name,), arriving.link)
        except NotADirectory as error:
            raise BadCall(f"{error} is a file and a directory") from None
        self._say(name, arriving.link)

    def _counted(self, block: tuple[Cid, bytes]) -> bool:
        """Whether it is stored: it is not in its CID. Raises ApiError."""
        self._count += 1
        if self._count > BLOCKS_MAX:
            raise ApiError(f"more than {BLOCKS_MAX} blocks at once")
        return block[0].hash_code != IDENTITY

    async def _progress(self, arriving: "_Arriving", *, ended: bool) -> None:
        size = arriving.size
        if self.with_progress and (ended or size - arriving.told >= PROGRESS_BYTES):
            arriving.told = size
            await self.progress.put({"Name": "/".join(arriving.part.path), "Bytes": size})

    def _attributes(self, part: Part) -> Metadata:
        own, given = self._metadata, part.metadata
        return Metadata(
            given.mode if own.mode is None else own.mode,
            given.mtime if own.mtime is None else own.mtime,
        )

    def _say(self, name: str, link: Link) -> None:
        if not self._silent:
            text = cid_text(self._call, link.cid)
            self.lines.append({"Name": name, "Hash": text, "Size": str(link.size)})

    def _directories(self) -> list[tuple[Cid, bytes]]:
        """The blocks of all directories, once all files are in."""
        blocks: list[tuple[Cid, bytes]] = []
        tops: list[Link] = []
        for path, built in self._tree.finish(top=self._wrap):
            blocks += built.blocks
            link = Link(built.root, path[-1] if path else "", built.total)
            self._say("/".join(path), link)
            if len(path) == 1:
                tops.append(link)
            elif not path:
                self.roots = [link]
        if not self._wrap:
            self.roots = [*self._tree.entries, *tops]
        if not self.roots or (self._wrap and not self._tree):
            raise BadCall('argument "path" is required')
        return blocks


class _Arriving:
    """A part on its way: a file as blocks, a symlink's target, or a directory's nothing."""

    def __init__(self, part: Part, profile: Profile, metadata: Metadata) -> None:
        self.part = part
        self.link: Link | None = None  # of a file or symlink that is finished
        self.told = 0  # of its bytes, as progress
        self._profile = profile
        self._metadata = metadata
        self._file = FileImporter(profile, metadata) if part.kind is PartKind.FILE else None
        self._target = bytearray()

    @property
    def size(self) -> int:
        """Bytes that came so far."""
        return len(self._target) if self._file is None else self._file.size

    def feed(self, data: bytes) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that `data` completes. Raises BadCall."""
        if self._file is not None:
            yield from self._file.feed(data)
            return
        self._target += data
        if len(self._target) > TARGET_BYTES_MAX:
            raise BadCall("the target of a symlink is too long")

    def finish(self) -> Iterator[tuple[Cid, bytes]]:
        """The last blocks. Raises BadCall."""
        if self._file is not None:
            yield from self._file.finish()
            self.link = self._file.link
        elif self.part.kind is PartKind.SYMLINK:
            try:
                target = self._target.decode("utf-8")
            except UnicodeDecodeError:
                raise BadCall("the target of a symlink is not UTF-8") from None
            self.link, block = symlink(target, self._profile, self._metadata)
            yield self.link.cid, block


def profile_of(call: Call) -> Profile:
    """The import profile that the options make. Raises BadCall."""
    name = call.text("profile")
    if name and name not in PROFILES:
        raise BadCall(f"profile {name[:40]!r} is not known: {', '.join(PROFILES)} are")
    zero = call.text("cid-version", "cid-ver") == "0"
    profile = PROFILES.get(name, V0_2015 if zero else V1_2025)
    hash_name = call.text("hash", default="sha2-256")
    if hash_name not in HASHES:
        raise BadCall(f"unrecognized hash function: {hash_name[:40]}")
    if call.flag("trickle", "t") or call.flag("nocopy"):
        raise BadCall("trickle and nocopy are not served here")
    inline = call.number("inline-limit", default=32) if call.flag("inline") else 0
    profile = replace(
        profile,
        cid_version=call.number("cid-version", "cid-ver", default=profile.cid_version),
        raw_leaves=call.flag("raw-leaves", default=profile.raw_leaves),
        chunk_bytes=_chunk_bytes(call.text("chunker", "s"), profile),
        width=call.number("max-file-links", default=profile.width),
        hash_code=HASHES[hash_name],
        inline_bytes=inline,
    )
    try:
        return profile.checked()
    except BadSetting as error:
        raise BadCall(str(error)) from None


def _chunk_bytes(chunker: str, profile: Profile) -> int:
    if chunker in ("", "default"):
        return profile.chunk_bytes
    kind, _, size = chunker.partition("-")
    if kind != "size" or not size.isascii() or not size.isdecimal() or len(size) > 9:
        raise BadCall(f"chunker {chunker[:40]!r} is not served here: size-BYTES is")
    return int(size)


def metadata_of(call: Call) -> Metadata:
    """Attributes that options set. Raises BadCall."""
    mode = call.text("mode")
    try:
        bits = int(mode, 8) if mode else None
    except ValueError:
        raise BadCall("a mode is an octal number") from None
    seconds = call.number("mtime") if call.text("mtime") else None
    return metadata(bits, seconds, call.number("mtime-nsecs"))


COMMANDS: Mapping[str, Any] = {"add": add}
