"""`files …`: MFS, the bucket's own tree. Every change is durable when it is answered."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chain.cids import DAG_PB, Cid
from gateway.ipfs.api.adding import metadata_of
from gateway.ipfs.api.call import Call, Data, Reply, Value
from gateway.ipfs.api.errors import ApiError
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import check_name, cid_text, content_path, mfs_path
from gateway.ipfs.api.reading import attributes, described
from gateway.ipfs.api.writing import Writing
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.codecs.importer import Metadata
from gateway.ipfs.errors import BlockError
from gateway.ipfs.index.mfs import EMPTY, NotADirectory, NotThere, View, make_parents, there
from gateway.ipfs.web.stream import size_of
from gateway.ipfs.web.walk import Content, Walker

ENTRIES_MAX = 100_000

Path = tuple[str, ...]
Command = Callable[[Node, Call], Awaitable[Reply]]


def _told(command: Command) -> Command:
    """What paths do not lead to, in Kubo's words."""

    async def run(node: Node, call: Call) -> Reply:
        try:
            return await command(node, call)
        except NotThere:
            raise ApiError("file does not exist") from None
        except NotADirectory as error:
            raise ApiError(f"{error} is not under a directory") from None

    return run


# ------------------------------------------------------------------ reading
async def _found(node: Node, call: Call, text: str) -> tuple[Link, View]:
    """What an MFS path or an `/ipfs/…` path leads to."""
    bucket = await node.bucket(call)
    view = node.mfs.view(bucket)
    if text.startswith(("/ipfs/", "/ipns/")):
        cid = (await node.resolve(content_path(text))).roots[-1]
        return await view.link_to(cid), view
    return await there(view, mfs_path(text)), view


async def stat(node: Node, call: Call) -> Reply:
    """What a path is."""
    link, view = await _found(node, call, call.argument(0, "path"))
    block = await view.block(link.cid)
    found: dict[str, Any] = {
        "Hash": cid_text(call, link.cid),
        "Size": len(block),
        "CumulativeSize": link.size,
        "Blocks": 0,
        "Type": "file",
    }
    if link.cid.codec == DAG_PB:
        parsed = dagpb.decode(block)
        data = unixfs.decode(parsed.data or b"")
        is_file = data.kind in (unixfs.Kind.FILE, unixfs.Kind.RAW)
        size = len(data.data or b"") if data.size is None else data.size
        found["Size"] = size if is_file else 0
        found["Blocks"] = len(parsed.links)
        if data.kind in (unixfs.Kind.DIRECTORY, unixfs.Kind.SHARD):
            found["Type"] = "directory"
        elif data.kind is unixfs.Kind.SYMLINK:
            found["Type"] = "symlink"
        found |= attributes(data)
    if call.flag("with-local"):
        found |= {"WithLocality": True, "Local": True, "SizeLocal": link.size}
    return Value(found)


async def ls(node: Node, call: Call) -> Reply:
    """The names in a directory, with `long` what they are; a file by itself."""
    text = call.arguments[0] if call.arguments else "/"
    link, view = await _found(node, call, text)
    long = call.flag("long", "l")
    if not await view.is_directory(link.cid):
        name = next((part for part in reversed(text.split("/")) if part), "")
        links = [link._replace(name=name)]
    elif link.cid == EMPTY.root:
        links = []
    else:
        links = list(await node.entries(await node.folder(link.cid)))
    walker = node.walker()
    return Value({"Entries": [await _entry(walker, call, each, long) for each in links]})


async def _entry(walker: Walker, call: Call, link: Link, long: bool) -> dict[str, Any]:
    if not long:
        return {"Name": link.name, "Type": 0, "Size": 0, "Hash": ""}
    kind, size, _, more = await described(walker, link.cid)
    text = cid_text(call, link.cid)
    return {"Name": link.name, "Type": int(kind == 1), "Size": size, "Hash": text, **more}


async def read(node: Node, call: Call) -> Reply:
    """Bytes of a file."""
    text = call.argument(0, "path")
    link, _ = await _found(node, call, text)
    entity = await node.entity(link.cid) if link.cid != EMPTY.root else None
    if not isinstance(entity, Content):
        raise ApiError(f"{text} was not a file")
    size, offset = size_of(entity), call.number("offset", "o")
    if offset > size:
        raise ApiError(f"offset was past end of file ({offset} > {size})")
    end = min(offset + call.number("count", "n", default=size), size)
    return Data(node.content(entity, offset, end), size=end - offset)


async def flush(node: Node, call: Call) -> Reply:
    """The CID of a path: what is in the tree is durable already."""
    link, _ = await _found(node, call, call.arguments[0] if call.arguments else "/")
    return Value({"Cid": cid_text(call, link.cid)})


# ------------------------------------------------------------------ changing
async def mkdir(node: Node, call: Call) -> Reply:
    """Make a directory, with `parents` also those above it."""
    path = mfs_path(call.argument(0, "path"))
    parents, metadata = call.flag("parents", "p"), metadata_of(call)
    made = directory_with(metadata)

    async def edit(view: View) -> None:
        if await view.find(path) is not None:
            if parents and await view.is_directory((await there(view, path)).cid):
                return
            raise ApiError("file already exists")
        if parents:
            await make_parents(view, path[:-1])
        view.add(*made)
        await view.put(path, await view.link_to(made[0]))

    await node.mfs.change(await node.bucket(call), edit)
    return Value(None)


def directory_with(metadata: Metadata) -> tuple[Cid, bytes]:
    """An empty directory."""
    data = unixfs.Data(unixfs.Kind.DIRECTORY, mode=metadata.mode, mtime=metadata.mtime)
    block = dagpb.encode((), unixfs.encode(data))
    return dagpb.cid_of(block), block


async def cp(node: Node, call: Call) -> Reply:
    """Put what other paths have at another one too: nothing is read but directories."""
    call.argument(1, "dest")
    *sources, target = call.arguments
    parents, force = call.flag("parents", "p"), call.flag("force")
    path = mfs_path(target)

    async def edit(view: View) -> None:
        for source in sources:
            if source.startswith(("/ipfs/", "/ipns/")):
                link = await view.link_to((await node.resolve(content_path(source))).roots[-1])
            else:
                link = await there(view, mfs_path(source))
            place = path
            if target.endswith("/") or len(sources) > 1:
                place = (*path, source.rstrip("/").rpartition("/")[2])
                check_name(place[-1])
            await place_at(view, place, link, parents=parents, force=force)

    await node.mfs.change(await node.bucket(call), edit)
    return Value(None)


async def place_at(view: View, path: Path, link: Link, *, parents: bool, force: bool) -> None:
    """Put something where nothing is; `force`: or a file. Raises ApiError."""
    if parents:
        await make_parents(view, path[:-1])
    before = await view.find(path)
    if before is not None and (not force or await view.is_directory(before.cid)):
        raise ApiError("directory already has entry by that name")
    await view.put(path, link)


async def mv(node: Node, call: Call) -> Reply:
    """Give something another path; into a directory that is there; over a file that is there."""
    call.argument(1, "dest")
    *sources, target = call.arguments
    goal, parents = mfs_path(target), call.flag("parents", "p")
    paths = [mfs_path(source) for source in sources]
    if () in paths:
        raise ApiError("cannot move the root")

    async def edit(view: View) -> None:
        for path in paths:
            link = await there(view, path)
            if parents:
                await make_parents(view, goal[:-1])
            before = await view.find(goal)
            place = goal
            into = before is not None and await view.is_directory(before.cid)
            if into or target.endswith("/") or len(paths) > 1:
                place = (*goal, path[-1])
            if place == path:
                continue
            if place[: len(path)] == path:
                raise ApiError("cannot move a directory into itself")
            below = await view.find(place)
            if below is not None and await view.is_directory(below.cid):
                raise ApiError("directory already has entry by that name")
            await view.put(place, link)
            await view.put(path, None)

    await node.mfs.change(await node.bucket(call), edit)
    return Value(None)


async def rm(node: Node, call: Call) -> Reply:
    """Take paths out; what they led to stays for whoever else has its CID."""
    call.argument(0, "path")
    recursive, force = call.flag("recursive", "r"), call.flag("force")
    paths = [mfs_path(text) for text in call.arguments]
    if () in paths:
        raise ApiError("cannot delete root")

    async def edit(view: View) -> None:
        for path in paths:
            found = await view.find(path)
            if found is None:
                if force:
                    continue
                raise NotThere
            if not (recursive or force) and await view.is_directory(found.cid):
                text = "/".join(path)
                raise ApiError(f"/{text} is a directory, use -r to remove directories")
            await view.put(path, None)

    await node.mfs.change(await node.bucket(call), edit)
    return Value(None)


async def write(node: Node, call: Call) -> Reply:
    """Write the body into a file: the bytes around it stay, unless it is truncated."""
    path = mfs_path(call.argument(0, "path"))
    writing = Writing(node, await node.bucket(call), call, path)
    await writing.run()
    return Value(None)


async def chmod(node: Node, call: Call) -> Reply:
    """Set the mode of a file or directory."""
    metadata = metadata_of(Call(call.command, options={"mode": call.argument(0, "mode")}))
    await _mark(node, call, call.argument(1, "path"), metadata)
    return Value(None)


async def touch(node: Node, call: Call) -> Reply:
    """Set the time of a file or directory; now, if none is given."""
    metadata = metadata_of(call)
    if metadata.mtime is None:
        seconds, nanoseconds = divmod(node.clock.now_ns(), 10**9)
        metadata = Metadata(None, (seconds, nanoseconds))
    await _mark(node, call, call.argument(0, "path"), metadata)
    return Value(None)


async def _mark(node: Node, call: Call, text: str, metadata: Metadata) -> None:
    path = mfs_path(text)

    async def edit(view: View) -> None:
        link = await there(view, path)
        block = await view.block(link.cid)
        if link.cid.codec == DAG_PB:
            parsed = dagpb.decode(block)
            data, links = unixfs.decode(parsed.data or b""), list(parsed.links)
        else:  # a raw leaf has no room for attributes
            size = len(block)
            data = unixfs.Data(unixfs.Kind.FILE, size=size, block_sizes=(size,))
            links = [Link(link.cid, "", size)]
        mode = data.mode if metadata.mode is None else metadata.mode
        mtime = data.mtime if metadata.mtime is None else metadata.mtime
        made = dagpb.encode(links, unixfs.encode(data._replace(mode=mode, mtime=mtime)))
        cid = dagpb.cid_of(made)
        view.add(cid, made)
        await view.put(path, await view.link_to(cid))

    try:
        await node.mfs.change(await node.bucket(call), edit)
    except BlockError as error:
        raise ApiError(f"{text}: {error}") from None


COMMANDS: Mapping[str, Any] = {
    "files/stat": _told(stat),
    "files/ls": _told(ls),
    "files/read": _told(read),
    "files/flush": _told(flush),
    "files/mkdir": _told(mkdir),
    "files/cp": _told(cp),
    "files/mv": _told(mv),
    "files/rm": _told(rm),
    "files/write": _told(write),
    "files/chmod": _told(chmod),
    "files/touch": _told(touch),
}
