"""Garbage at the machine-local sockets of a running network: its processes outlive it."""

import asyncio
import json
import random
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from chain import protocol as ledger
from chain.net import framing, wire
from chain.net.transport import Message, Payload
from gateway import protocol as administration
from gateway.catalog.protocol import Commit
from miner import protocol as miner
from tests.clients.running import RunningNetwork
from tests.fault.test_hostile_http import assert_unhurt, log_sizes, resident_bytes

pytestmark = [pytest.mark.network, pytest.mark.timeout(300)]

ANSWER_SECONDS = 30.0
BODY = b"still here"
NUMBERS = [0, 1, 2, -1, 7, 255, 256, 65536, 2**31, 2**32, 2**63 - 1, -(2**63), 2**64 - 1]
LENGTHS = [0, 1, 4, 16, 31, 32, 33, 34, 64, 1000]
# Not the name of the owner: whoever may ask here may also take its keys away.
WORDS = ["", "a", "owners", "small", "cess", "accounts", "leases", "objects", "x" * 300, "\x00",
         "../../etc/passwd", "\u00e4" * 40, "target", "ipfs", "-1", "never"]  # fmt: skip


class Drawer:
    """Draws messages: frames of any bytes, of the right head, of the right types."""

    def __init__(self, seed: int, kinds: list[type[Message[Any]]]) -> None:
        self.chance = random.Random(seed)
        self._kinds = kinds
        self._payloads: list[bytes] = []
        self._in_list = False

    def frames(self, number: int) -> list[bytes]:
        """One message."""
        chance = self.chance
        match chance.randrange(5):
            case 0:
                return [
                    chance.randbytes(chance.choice(LENGTHS))
                    for _ in range(chance.choice([1, 2, framing.FRAMES_MAX]))
                ]
            case 1:
                return [
                    self._head(number, self._tag(), chance.randbytes(chance.choice(LENGTHS)), 0)
                ]
            case 2:
                body = msgspec.msgpack.encode(self._anything(3))
                return [self._head(number, self._tag(), body, chance.choice([0, 1, 64])), b"more"]
            case _:
                return self._conforming(number)

    def _tag(self) -> bytes:
        tags = [wire.tag_of(kind) for kind in self._kinds]
        return self.chance.choice([*tags, *tags, b"", b"Nothing", b"\xff" * 64])

    def _head(self, number: int, tag: bytes, body: bytes, payloads: int) -> bytes:
        kind = self.chance.choice([wire.REQUEST] * 8 + [wire.REPLY, wire.ERROR])
        return wire.pack_head(kind, number, body, payloads, tag=tag)

    def _conforming(self, number: int) -> list[bytes]:
        """Every field has its type, and any value."""
        kind = self.chance.choice(self._kinds)
        self._payloads = []
        body = msgspec.msgpack.encode(self._value(inspect.type_info(kind)))
        payloads = self._payloads[: framing.FRAMES_MAX - 1]
        head = wire.pack_head(wire.REQUEST, number, body, len(payloads), tag=wire.tag_of(kind))
        return [head, *payloads]

    def _anything(self, depth: int) -> Any:
        chance = self.chance
        match chance.randrange(6 if depth else 4):
            case 0:
                return chance.choice(NUMBERS)
            case 1:
                return chance.choice(WORDS)
            case 2:
                return chance.randbytes(chance.choice(LENGTHS))
            case 3:
                return chance.choice([None, True, 1.5, float("nan")])
            case 4:
                return [self._anything(depth - 1) for _ in range(chance.randrange(6))]
            case _:
                return {str(n): self._anything(depth - 1) for n in range(chance.randrange(6))}

    def _value(self, kind: inspect.Type) -> Any:  # noqa: PLR0911 - one return for each type
        chance = self.chance
        match kind:
            case inspect.StructType(fields=fields, array_like=array_like):
                values = {field.encode_name: self._value(field.type) for field in fields}
                return list(values.values()) if array_like else values
            case inspect.IntType():
                return chance.choice(NUMBERS)
            case inspect.BytesType(min_length=least):
                return chance.randbytes(least or chance.choice(LENGTHS))
            case inspect.StrType():
                return chance.choice(WORDS)
            case inspect.BoolType():
                return chance.random() < 0.5
            case inspect.NoneType():
                return None
            case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
                return self._list(item)
            case inspect.UnionType(types=types):
                return self._value(chance.choice(types))
            case inspect.CustomType(cls=cls) if cls is Payload:
                self._payloads.append(chance.randbytes(chance.choice(LENGTHS)))
                return len(self._payloads) - 1
        return self._anything(2)

    def _list(self, item: inspect.Type) -> list[Any]:
        """A long one too, but no long list of long lists: a message has 16 MiB at the most."""
        count = self.chance.choice([0, 1, 3, 6, 12] if self._in_list else [0, 1, 3, 6, 12, 1100])
        outer, self._in_list = self._in_list, True
        values = [self._value(item) for _ in range(count)]
        self._in_list = outer
        return values


def messages_of(*modules: Any) -> list[type[Message[Any]]]:
    """The messages that a protocol defines."""
    found = [value for module in modules for value in vars(module).values()]
    return [
        value
        for value in found
        if isinstance(value, type) and issubclass(value, Message) and value is not Message
    ]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    with RunningNetwork(tmp_path_factory.mktemp("frames"), "--pledge", "1GiB") as running:
        client = running.boto()
        client.create_bucket(Bucket="before")
        client.put_object(Bucket="before", Key="small", Body=BODY)
        client.put_object(Bucket="before", Key="large", Body=BODY * 100_000)
        yield running


def check_serving(network: RunningNetwork) -> None:
    client = network.boto()
    for key, body in (("small", BODY), ("large", BODY * 100_000)):
        assert client.get_object(Bucket="before", Key=key)["Body"].read() == body
    client.put_object(Bucket="before", Key="again", Body=BODY * 10_000)
    assert client.get_object(Bucket="before", Key="again")["Body"].read() == BODY * 10_000


PEERS: dict[str, list[type[Message[Any]]]] = {
    "catalog": [Commit, *messages_of(administration), miner.AskCommitted, miner.ReportMissing],
    "miner-m3": messages_of(miner),
    "chain": messages_of(ledger),
}


@pytest.mark.parametrize("peer", PEERS)
async def test_garbage_at_a_local_socket_stops_no_process(
    network: RunningNetwork, peer: str
) -> None:
    pids, memory, logs = network.pids(), resident_bytes(network), log_sizes(network)
    path = run_directory(network) / f"{peer}.ipc"
    drawer, codes = Drawer(99, PEERS[peer]), Counter[str]()
    for start in range(1, 601, 50):  # a new connection now and then
        reader, writer = await asyncio.open_unix_connection(path)
        for number in range(start, start + 50):
            frames = drawer.frames(number)
            writer.write(framing.prefix(frames) + b"".join(frames))
        await drain(reader, writer, codes)
        writer.write(drawer.chance.randbytes(1000))  # no message at all
        writer.close()
    assert codes["internal"] == 0, codes
    assert codes["malformed"] > 50
    assert codes["ok"] > 0
    await asyncio.to_thread(check_serving, network)
    assert_unhurt(network, pids, memory, logs)


async def drain(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, codes: Counter[str]
) -> None:
    """Ask a last good question; all answers before its own are counted."""
    last = 2**32
    body = msgspec.msgpack.encode({})
    question = wire.pack_head(wire.REQUEST, last, body, 0, tag=b"Unheard")
    writer.write(framing.prefix([question]) + question)
    async with asyncio.timeout(ANSWER_SECONDS):
        while True:
            head = wire.parse_head(await next_head(reader))
            if head.request == last:
                return
            code = "ok"
            if head.kind == wire.ERROR:
                code = msgspec.msgpack.decode(head.body, type=wire.Refusal).code
            codes[code] += 1


async def next_head(reader: asyncio.StreamReader) -> bytes:
    """The first frame of the next message."""
    count = (await reader.readexactly(1))[0]
    sizes = struct.unpack(f">{count}I", await reader.readexactly(4 * count))
    frames = [await reader.readexactly(size) for size in sizes]
    return frames[0]


def run_directory(network: RunningNetwork) -> Path:
    """Where the sockets are: the data directory's `run`, or a short one."""
    document = json.loads((network.data_dir / "run" / "network.json").read_text())
    return Path(document["run_dir"])
