"""`get`: files and directories as a tar."""

import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from chain.net.transport import Buffer
from gateway.ipfs.api.call import Call, Data, Reply
from gateway.ipfs.api.errors import ApiError, BadCall
from gateway.ipfs.api.node import Node
from gateway.ipfs.api.paths import content_path
from gateway.ipfs.web.respond.tar import Archive
from gateway.ipfs.web.stream import size_of
from gateway.ipfs.web.walk import Content
from gateway.ipfs.web.walk import Node as IpldNode

_GZIP = 31  # zlib's window with a gzip header


async def get(node: Node, call: Call) -> Reply:
    """A tar of what a path leads to; with `compress` in gzip, a file without `archive` as it is."""
    text = call.argument(0, "ipfs-path")
    path = content_path(text)
    compress, level = (
        call.flag("compress", "C"),
        call.number("compression-level", "l", default=-1, least=-1),
    )
    if level > 9:
        raise BadCall("compression level must be between 1 and 9")
    entity = (await node.resolve(path)).entity
    if isinstance(entity, IpldNode):
        raise ApiError(f"{text} is no UnixFS")
    name = path.segments[-1] if path.segments else path.root
    if compress and not call.flag("archive", "a") and isinstance(entity, Content):
        body = node.content(entity, 0, size_of(entity))
        return Data(_compressed(body, level), "application/gzip")
    body = Archive(node.walker(), name).parts(entity)
    if compress:
        return Data(_compressed(body, level), "application/gzip")
    return Data(body, "application/x-tar")


async def _compressed(
    body: AsyncGenerator[Buffer, None], level: int
) -> AsyncGenerator[Buffer, None]:
    packer = zlib.compressobj(level, wbits=_GZIP)
    async with aclosing(body):
        async for part in body:
            if data := packer.compress(part):
                yield data
    yield packer.flush()


COMMANDS: Mapping[str, Any] = {"get": get}
