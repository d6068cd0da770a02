"""The transport in memory, with faults, for tests and simulation: same seed, same trace.

Every message is really encoded and parsed (chain/net/wire.py); only the socket is missing. Delay,
loss, duplication, reordering and partitions come from the network's `random.Random` and the
event loop's time, which a simulation makes virtual (chain/net/simulation.py).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from chain.ids import AccountId
from chain.net import wire
from chain.net.rpc import AddressError, Asks, Responder, Window
from chain.net.transport import Buffer, Caller, Handlers, Message, Reply

Deliver = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Faults:
    """What a link does to each message. Probabilities in 0..1, delays in seconds.

    Delays are drawn for each message alone, so a wide range also reorders. `reset` is the chance
    that the message breaks its connection (asks on their way fail at once).
    """

    delay: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    duplication: float = 0.0
    reset: float = 0.0


@dataclass(slots=True)
class MemoryNetwork:
    """Served names and the state of the links between them."""

    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - simulation
    faults: Faults = field(default_factory=Faults)
    _servers: dict[str, "MemoryServer"] = field(default_factory=dict)
    _peers: list["MemoryPeer"] = field(default_factory=list)  # in the order in which they came
    _links: dict[str, Faults] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)
    _cut: set[tuple[str, str]] = field(default_factory=set)

    def degrade(self, name: str, faults: Faults | None) -> None:
        """Give messages to and from this node faults of their own; None: as everywhere."""
        if faults is None:
            self._links.pop(name, None)
        else:
            self._links[name] = faults

    def silence(self, name: str) -> None:
        """The node takes messages and answers nothing: a stalled process."""
        self._silent.add(name)

    def unsilence(self, name: str) -> None:
        """The node answers again."""
        self._silent.discard(name)

    def partition(self, one: str, other: str) -> None:
        """Nothing passes between two nodes; both sides notice nothing but silence."""
        self._cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        """End every partition."""
        self._cut.clear()

    def find(self, name: str) -> "MemoryServer | None":
        """Who serves this name."""
        return self._servers.get(name)

    def serve(self, name: str, server: "MemoryServer") -> None:
        """Take a name. Raises AddressError when it is taken."""
        if name in self._servers:
            raise AddressError(f"memory://{name} is served already")
        self._servers[name] = server
        self._connect_waiting(name)

    def leave(self, name: str) -> None:
        """Give a name back; its connections break."""
        self._servers.pop(name, None)
        for peer in self._to(name):
            peer.broken()

    def join(self, peer: "MemoryPeer") -> None:
        """Count a peer in; it connects as soon as its target is served."""
        self._peers.append(peer)
        if peer.target in self._servers:
            peer.connected()

    def part(self, peer: "MemoryPeer") -> None:
        """Count a peer out."""
        if peer in self._peers:
            self._peers.remove(peer)

    def carry(self, source: str, target: str, deliver: Deliver, broken: Deliver) -> None:
        """Deliver a message from `source` to `target` as the links allow."""
        if (source, target) in self._cut or source in self._silent:
            return
        faults = self._links.get(target) or self._links.get(source) or self.faults
        if faults.reset and self.random.random() < faults.reset:
            broken()
            return
        if faults.loss and self.random.random() < faults.loss:
            return
        copies = 2 if faults.duplication and self.random.random() < faults.duplication else 1
        loop = asyncio.get_running_loop()
        for _ in range(copies):
            low, high = faults.delay
            delay = self.random.uniform(low, high) if high else 0.0
            if delay:
                loop.call_later(delay, deliver)
            else:
                loop.call_soon(deliver)

    def _connect_waiting(self, name: str) -> None:
        for peer in self._to(name):
            peer.connected()

    def _to(self, name: str) -> "list[MemoryPeer]":
        return [peer for peer in self._peers if peer.target == name]


class MemoryTransport:
    """A Transport on a MemoryNetwork. `name` is this node's end for partitions and faults."""

    def __init__(
        self,
        network: MemoryNetwork,
        *,
        name: str = "",
        identity: AccountId | None = None,
        window: Window | None = None,
    ) -> None:
        self.network = network
        self.name = name
        self.identity = identity
        self._window = window or Window()
        self._codec = wire.Codec()
        self._servers: list[MemoryServer] = []
        self._peers: list[MemoryPeer] = []

    async def serve(self, address: str, handlers: Handlers) -> "MemoryServer":
        """See Transport.serve. Raises AddressError."""
        server = MemoryServer(self.network, _name(address), Responder(self._codec, handlers))
        self.network.serve(server.name, server)
        self._servers.append(server)
        return server

    def connect(self, address: str, identity: AccountId | None = None) -> "MemoryPeer":
        """See Transport.connect. Raises AddressError."""
        del identity  # names are the simulation's own: nobody can pretend to be another
        peer = MemoryPeer(self, _name(address), self._codec, self._window)
        self._peers.append(peer)
        return peer

    async def close(self) -> None:
        """See Transport.close."""
        for peer in self._peers:
            peer.close()
        for server in self._servers:
            await server.close()


class MemoryPeer:
    """A Peer on a MemoryNetwork."""

    def __init__(
        self, transport: MemoryTransport, target: str, codec: wire.Codec, window: Window
    ) -> None:
        self._network = transport.network
        self._source = transport.name
        self._caller = Caller(transport.identity, local=transport.identity is None)
        self.target = target
        self._loop = asyncio.get_running_loop()
        self._asks = Asks(codec, window, self._send, f"memory://{target}")
        self._network.join(self)

    async def ask(self, message: Message[Reply], *, timeout: float = 30.0) -> Reply:  # noqa: ASYNC109
        """See Peer.ask."""
        return await self._asks.ask(message, timeout)

    def close(self) -> None:
        """See Peer.close."""
        self._network.part(self)
        self._asks.close()

    def connected(self) -> None:
        """The target is served."""
        self._loop.call_soon(self._asks.opened)

    def broken(self) -> None:
        """The connection broke; it stands again at once when the target is still served."""
        self._asks.lost("connection lost")
        if self._network.find(self.target) is not None:
            self.connected()

    def _break(self) -> None:
        self._loop.call_soon(self.broken)

    def _send(self, frames: list[Buffer]) -> bool:
        def arrive() -> None:
            server = self._network.find(self.target)
            if server is not None:
                server.receive(sent, self._caller, answer)

        def answer(reply: list[Buffer]) -> None:
            self._network.carry(
                self.target, self._source, lambda: self._asks.receive(reply), self.broken
            )

        sent: list[Buffer] = [_frozen(frame) for frame in frames]
        self._network.carry(self._source, self.target, arrive, self._break)
        return True


class MemoryServer:
    """A Server on a MemoryNetwork."""

    def __init__(self, network: MemoryNetwork, name: str, responder: Responder) -> None:
        self._network = network
        self.name = name
        self._responder = responder
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """See Server.address."""
        return f"memory://{self.name}"

    async def close(self) -> None:
        """See Server.close: running handlers are cancelled."""
        if self._network.find(self.name) is self:
            self._network.leave(self.name)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def receive(
        self, frames: list[Buffer], caller: Caller, answer: Callable[[list[Buffer]], None]
    ) -> None:
        """Run the handler of a request and hand its reply to `answer`."""

        async def run() -> None:
            reply = await self._responder.answer(frames, caller)
            if reply is not None:
                answer([_frozen(frame) for frame in reply])

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _name(address: str) -> str:
    name = address.removeprefix("memory://")
    if name == address or not name:
        raise AddressError(f"{address}: not memory://NAME")
    return name


def _frozen(frame: Buffer) -> bytes:
    """What a socket would have copied: the sender may reuse its buffer once it is answered."""
    return bytes(frame)
