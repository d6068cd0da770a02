"""What the parts of the gateway are given: the face of names, and what responders work with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.ipfs.errors import NotSupported
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.reader import BLOCKS_MAX, BlockReader
from gateway.ipfs.index.recent import RecentLeaves
from gateway.ipfs.web.replies import Reply
from gateway.ipfs.web.request import ContentPath, GatewayRequest, Target
from gateway.ipfs.web.walk import Resolved, Walker


@dataclass(frozen=True, slots=True)
class IpfsConfig:
    """`[ipfs]`: what the front end may be told."""

    listing_entries_max: int = 10_000
    walk_blocks_max: int = BLOCKS_MAX  # that one request may touch
    # Seconds to the first byte of an answer, and from one of its parts to the next.
    timeout: float = 30.0
    requests_max: int = 1024  # at once, of one worker
    client_requests_max: int = 256  # of them from one address
    # Of larger files no ranges are served: a CDN in front would fetch the whole for each.
    range_size_max: int | None = None


@dataclass(frozen=True, slots=True)
class Serving:
    """What responders work with in one request."""

    walker: Walker
    config: IpfsConfig
    recent: RecentLeaves

    @property
    def reader(self) -> BlockReader:
        """The blocks of this request."""
        return self.walker.reader

    @property
    def index(self) -> BlockIndex:
        """The blocks of all requests."""
        return self.walker.reader.index


# A form of the content as a response; docs/specs and RESPONDERS in respond/table.py.
Responder = Callable[[Serving, GatewayRequest, Resolved], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Named:
    """Where a name leads."""

    path: ContentPath  # under ipfs: the segments that the name's own path has come first
    ttl: int  # seconds; 0: not known


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Another page of the same site in place of a missing one (`_redirects`)."""

    path: ContentPath  # under ipfs
    status: int  # 200, or what a page of its own is sent with (404, 410, 451)


class NameSystem(Protocol):
    """Names, hosts and what websites say of missing pages."""

    async def route(
        self, target: Target, scope: Mapping[str, object], headers: Mapping[bytes, bytes]
    ) -> Target | Reply:
        """Map the request's host (subdomain, DNSLink, proxy) to a content path, or answer."""
        ...

    async def resolve(self, content: ContentPath) -> Named:
        """Where `/ipns/NAME/…` leads now. Raises IpfsError."""
        ...

    async def record(self, request: GatewayRequest) -> Reply:
        """The signed record of a name."""
        ...

    async def missing(
        self, serving: Serving, request: GatewayRequest, path: ContentPath
    ) -> Rewrite | Reply | None:
        """What a website (`target.isolated`) says of a path that is not there; None: nothing.

        `path` is the path under /ipfs that was not found.
        """
        ...


class NoNames:
    """No name resolves and no host is mapped."""

    async def route(
        self, target: Target, scope: Mapping[str, object], headers: Mapping[bytes, bytes]
    ) -> Target | Reply:
        """Every host is a path gateway."""
        del scope, headers
        return target

    async def resolve(self, content: ContentPath) -> Named:
        """Raises NotSupported."""
        del content
        raise NotSupported("IPNS names are not served here")

    async def record(self, request: GatewayRequest) -> Reply:
        """Raises NotSupported."""
        del request
        raise NotSupported("IPNS names are not served here")

    async def missing(
        self, serving: Serving, request: GatewayRequest, path: ContentPath
    ) -> Rewrite | Reply | None:
        """Nothing."""
        del serving, request, path
        return None
