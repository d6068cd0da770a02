"""The transport of a node: `ipc://` on its machine, `tcp://` to other machines."""

from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.rpc import Authorise, Limits, refuse_everyone
from chain.net.shared import Arena
from chain.net.stream import StreamTransport
from chain.net.transport import Handlers, Peer, Server, Transport
from chain.net.zeromq import ZeroMqTransport


class NodeTransport:
    """A Transport. Make it and use it in one running event loop.

    `identity` is this node on `tcp://`; `authorise` says who may ask what we serve there. libzmq
    and its thread begin with the first `tcp://` address. `arena` is shared with the services of
    this machine that are connected to.
    """

    def __init__(
        self,
        identity: Identity | None = None,
        *,
        authorise: Authorise = refuse_everyone,
        limits: Limits | None = None,
        arena: Arena | None = None,
    ) -> None:
        self._identity = identity
        self._authorise = authorise
        self._limits = limits
        self._local = StreamTransport(limits=limits, arena=arena)
        self._remote: ZeroMqTransport | None = None

    async def serve(self, address: str, handlers: Handlers) -> Server:
        """See Transport.serve. Raises AddressError."""
        return await self._carrier(address).serve(address, handlers)

    def connect(self, address: str, identity: AccountId | None = None) -> Peer:
        """See Transport.connect. Raises AddressError."""
        return self._carrier(address).connect(address, identity)

    async def close(self) -> None:
        """See Transport.close."""
        await self._local.close()
        if self._remote is not None:
            await self._remote.close()

    def _carrier(self, address: str) -> Transport:
        if not address.startswith("tcp://"):
            return self._local
        if self._remote is None:
            self._remote = ZeroMqTransport(
                self._identity, authorise=self._authorise, limits=self._limits
            )
        return self._remote
