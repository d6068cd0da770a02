"""The memory transport under faults and virtual time."""

import asyncio
import hashlib
from random import Random

import msgspec
import pytest

from chain.net.memory import Faults, MemoryNetwork, MemoryTransport
from chain.net.rpc import Window
from chain.net.simulation import EPOCH_NS, Deadlock, SimClock, simulate
from chain.net.transport import Caller, Handlers, Message, Unreachable


class Tock(msgspec.Struct, array_like=True):
    number: int


class Tick(Message[Tock], frozen=True):
    number: int


async def _world(seed: int) -> tuple[str, int]:
    """Ten services, lossy links, retries; a digest of everything that happened."""
    random = Random(seed)
    faults = Faults(delay=(0.001, 0.4), loss=0.1, duplication=0.1, reset=0.02)
    network = MemoryNetwork(random, faults)
    trace: list[tuple[float, str, int]] = []
    clock = SimClock()

    async def run(name: str) -> None:
        async def tick(message: Tick, _: Caller) -> Tock:
            await clock.sleep(random.expovariate(20))
            trace.append((clock.monotonic(), name, message.number))
            return Tock(message.number)

        serving = MemoryTransport(network, name=name)
        await serving.serve(f"memory://{name}", Handlers().on(Tick, tick))
        peer = MemoryTransport(network, name="client").connect(f"memory://{name}")
        for number in range(20):
            for attempt in range(6):
                try:
                    assert (await peer.ask(Tick(number), timeout=1)).number == number
                    break
                except Unreachable:
                    await clock.sleep(2**attempt)
            await clock.sleep(3600)
        peer.close()

    async with asyncio.TaskGroup() as group:
        for index in range(10):
            group.create_task(run(f"miner-{index}"))
    return hashlib.sha256(repr(trace).encode()).hexdigest(), len(trace)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    first, calls = simulate(_world(7))
    assert simulate(_world(7)) == (first, calls)
    assert simulate(_world(8))[0] != first
    assert calls > 200  # duplicates and retries beyond the 200 asks


def test_simulated_time_passes_without_waiting() -> None:
    async def main() -> tuple[int, float]:
        clock = SimClock()
        await clock.sleep(86_400)
        return clock.now_ns(), clock.monotonic()

    assert simulate(main()) == (EPOCH_NS + 86_400 * 10**9, 86_400.0)


def test_waiting_for_nothing_is_a_deadlock_not_a_hang() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        simulate(main())


async def _pair(network: MemoryNetwork) -> tuple[MemoryTransport, MemoryTransport]:
    async def tick(message: Tick, _: Caller) -> Tock:
        return Tock(message.number)

    serving = MemoryTransport(network, name="miner")
    await serving.serve("memory://miner", Handlers().on(Tick, tick))
    return serving, MemoryTransport(network, name="gateway")


@pytest.mark.parametrize("fault", ["partition", "silence"])
def test_a_cut_off_node_is_silent_until_healed(fault: str) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        _, asking = await _pair(network)
        peer = asking.connect("memory://miner")
        assert (await peer.ask(Tick(1))).number == 1
        if fault == "partition":
            network.partition("gateway", "miner")
        else:
            network.silence("miner")
        before = SimClock().monotonic()
        with pytest.raises(Unreachable, match="no answer within 5 s"):
            await peer.ask(Tick(2), timeout=5)
        assert SimClock().monotonic() == before + 5
        network.heal()
        network.unsilence("miner")
        assert (await peer.ask(Tick(3))).number == 3

    simulate(main())


def test_a_slow_node_is_slow_alone() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        _, asking = await _pair(network)
        network.degrade("miner", Faults(delay=(2.0, 2.0)))
        peer = asking.connect("memory://miner")
        await peer.ask(Tick(1))
        assert SimClock().monotonic() == pytest.approx(4.0)
        network.degrade("miner", None)
        await peer.ask(Tick(1))
        assert SimClock().monotonic() == pytest.approx(4.0)

    simulate(main())


def test_a_reset_fails_asks_at_once_and_the_peer_works_again() -> None:
    async def main() -> None:
        network = MemoryNetwork(faults=Faults(reset=1.0))
        _, asking = await _pair(network)
        peer = asking.connect("memory://miner")
        with pytest.raises(Unreachable, match="connection lost"):
            await peer.ask(Tick(1))
        network.faults = Faults()
        assert (await peer.ask(Tick(2))).number == 2
        assert SimClock().monotonic() == 0.0

    simulate(main())


def test_an_ask_waits_for_a_service_that_starts_within_the_grace() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        peer = MemoryTransport(network, window=Window(connect_grace=1.0)).connect("memory://miner")
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(peer.ask(Tick(1)))
            await asyncio.sleep(0.9)
            await _pair(network)
        assert asked.result().number == 1
        late = MemoryTransport(network).connect("memory://nobody")
        with pytest.raises(Unreachable, match="not connected"):
            await late.ask(Tick(1))
        assert SimClock().monotonic() == pytest.approx(1.9)
        with pytest.raises(Unreachable, match="not connected"):
            await late.ask(Tick(1))  # known to be gone: at once
        assert SimClock().monotonic() == pytest.approx(1.9)

    simulate(main())
