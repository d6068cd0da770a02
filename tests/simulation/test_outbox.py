"""Objects, miners and the ledger together: the outbox tells the ledger every byte once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from chain import certificate
from chain.client import LedgerClient, TransactionFailed
from chain.config import ChainConfig
from chain.genesis import GIB, Genesis, single_operator
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.ledger.execution import OPERATOR_LEASE
from chain.ledger.store import MemoryStore
from chain.ledger.transactions.leases import AuthoriseGateway, ReserveLease
from chain.ledger.transactions.miners import DeclareLost, RegisterMiner
from chain.ledger.transactions.nodes import RegisterGateway
from chain.ledger.transactions.objects import Leaf
from chain.net.memory import Faults, MemoryTransport
from chain.net.simulation import simulate
from chain.net.transport import RemoteError, Unreachable
from chain.node import ChainNode
from gateway import outbox as outbox_module
from gateway.accounts import AccountService
from gateway.catalog.interface import Batch, CommitUncertain, Put, Space
from gateway.catalog.memory import MemoryCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.errors import NoSuchKey, ServiceUnavailable
from gateway.keys import KeyRing
from gateway.model import Attributes, Bucket, ObjectVersion
from gateway.objects import ObjectService
from gateway.outbox import Outbox
from gateway.records import VersionRow, decode, encode
from gateway.store import Lease, StoreSettings, account_keys
from gateway.versions import version_uid
from miner.records import Row
from miner.releaser import Releaser
from tests.simulation.miner_grid import Grid
from tests.unit.object_parts import MemoryOwners, stream

VALIDATOR, OPERATOR, GATEWAY, OTHER = (Identity(bytes([n]) * 32) for n in (1, 2, 3, 4))
SIZE = 40_000


class FlakyCatalog(MemoryCatalog):
    """Loses the answer to a commit when told to: the commit was made all the same."""

    lose_next_answer = False

    async def commit(self, batch: Batch) -> int:
        sequence = await super().commit(batch)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise CommitUncertain("the answer was lost")
        return sequence


class OneLease:
    def lease(self, _account: str) -> Lease:
        return Lease(OPERATOR_LEASE, GIB)


class Whole:
    """Six miners, a ledger node, an object service, a releaser and an outbox."""

    def __init__(self) -> None:
        self.catalog = FlakyCatalog()
        self.records = CatalogPoolRecords(self.catalog)
        self.grid = Grid(records=self.records)
        entropy = self.grid.random.randbytes
        keys = KeyRing(MemoryOwners(entropy), entropy)
        pool, clock = self.grid.pool, self.grid.clock
        self.accounts = AccountService(self.catalog, keys, clock=clock, entropy=entropy)
        self.objects = ObjectService(
            self.catalog, pool, pool, keys, OneLease(), clock=clock, entropy=entropy,
            settings=StoreSettings(),
        )  # fmt: skip
        self.releaser = Releaser(self.records, self.grid.directory, self.grid.peers, clock)
        self.genesis: Genesis
        self.ledger: LedgerClient
        self.outbox: Outbox
        self.bucket: Bucket

    async def start(self) -> None:
        await self.grid.add_miners(6)
        for miner in self.grid.identities.values():
            await self.ledger.submit(
                miner,
                RegisterMiner(
                    owner=miner.id, address="m", domain="d", pledged_bytes=GIB, min_price=1
                ),
            )
        await self.ledger.submit(GATEWAY, RegisterGateway(address="g"))
        grant = AuthoriseGateway(lease=OPERATOR_LEASE, gateway=GATEWAY.id, cap=GIB)
        await self.ledger.submit(OPERATOR, grant)
        await self.ledger.submit(GATEWAY, ReserveLease(lease=OPERATOR_LEASE, size=GIB))
        self.outbox = Outbox(self.catalog, self.ledger, GATEWAY)
        account = (await self.accounts.create("Ann", id="ann")).account
        self.bucket = await self.objects.create_bucket(account, "photos")

    async def put(self, *keys: str, size: int = SIZE) -> ObjectVersion:
        for key in keys:
            body = stream(self.grid.random.randbytes(size))
            version = await self.objects.put(self.bucket, key, body, Attributes())
        return version

    async def delete(self, *keys: str) -> None:
        for key in keys:
            await self.objects.delete(self.bucket, key)

    async def send(self) -> None:
        while await self.outbox.step():
            pass

    async def stored(self) -> dict[AccountId, int]:
        return {miner.id: miner.stored_bytes for miner in await self.ledger.miners()}

    async def used(self) -> int:
        lease = await self.ledger.lease(OPERATOR_LEASE)
        assert lease is not None
        return lease.used

    def on_disk(self) -> dict[AccountId, int]:
        return {miner: store.space().used for miner, store in self.grid.stores.items()}

    def charged(self) -> int:
        with self.catalog.read() as reader:
            return reader.counter(b"used/" + OPERATOR_LEASE)

    def untold(self) -> Sequence[tuple[bytes, bytes]]:
        return self.records.scan("released", b"", 100)


@asynccontextmanager
async def running() -> AsyncIterator[Whole]:
    whole = Whole()
    network, clock = whole.grid.network, whole.grid.clock
    whole.genesis = single_operator("sim", clock.now_ns(), VALIDATOR.id, OPERATOR.id, 3600)
    config = ChainConfig(Path("unused"), "memory://chain", block_seconds=0.01)
    transport = MemoryTransport(network, name="chain")
    node = ChainNode(config, transport, clock, MemoryStore(), whole.genesis, VALIDATOR)
    stop = asyncio.Event()
    user = MemoryTransport(network, name="catalog")
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(stop))
        await asyncio.sleep(0)
        whole.ledger = LedgerClient(user.connect("memory://chain"), whole.genesis)
        await whole.start()
        yield whole
        whole.objects.close()
        await user.close()
        stop.set()


def test_stored_bytes_and_the_leases_use_follow_the_miners_disks_up_and_down_to_zero() -> None:
    async def run() -> None:
        async with running() as whole:
            await whole.put("a", "b", "c")
            await whole.put("small", size=100)
            await whole.send()
            on_disk = whole.on_disk()
            assert await whole.stored() == on_disk
            assert min(on_disk.values()) > 0
            inline = 100 + 16
            assert await whole.used() == sum(on_disk.values()) + inline == whole.charged()
            await whole.delete("b")
            assert await whole.releaser.step() is False
            await whole.send()
            assert await whole.stored() == whole.on_disk() != on_disk
            await whole.delete("a", "c", "small")
            await whole.releaser.step()
            await whole.send()
            assert set((await whole.stored()).values()) == {0} == set(whole.on_disk().values())
            assert (await whole.used(), whole.charged(), whole.untold()) == (0, 0, [])

    simulate(run())


def test_an_absent_miners_bytes_count_until_it_has_deleted_them() -> None:
    async def run() -> None:
        async with running() as whole:
            await whole.put("a", "b")
            await whole.send()
            away = next(iter(whole.grid.stores))
            held = whole.on_disk()[away]
            whole.grid.network.partition("pool", whole.grid.name(away))
            await whole.delete("a", "b")
            await whole.releaser.step()
            await whole.send()
            assert {miner: size for miner, size in (await whole.stored()).items() if size} == {
                away: held
            }
            whole.grid.network.heal()
            await whole.grid.clock.sleep(100)
            while whole.records.scan("releases", b"", 1):
                await whole.releaser.step()
                await whole.grid.clock.sleep(1)
            await whole.send()
            assert set((await whole.stored()).values()) == {0}

    simulate(run())


def test_a_lost_answer_of_the_catalog_does_not_count_a_deletion_twice() -> None:
    async def run() -> None:
        async with running() as whole:
            await whole.put("a", "b")
            await whole.send()
            await whole.delete("a")
            whole.catalog.lose_next_answer = True
            with pytest.raises(CommitUncertain):
                await whole.releaser.step()
            await whole.releaser.step()
            await whole.releaser.step()
            whole.catalog.lose_next_answer = True
            with pytest.raises(CommitUncertain):
                await whole.outbox.step()
            await whole.send()
            assert await whole.stored() == whole.on_disk()

    simulate(run())


def test_a_batch_taken_while_a_release_is_counted_loses_no_byte() -> None:
    async def run() -> None:
        async with running() as whole:
            await whole.put("a", "b")
            await whole.send()
            await whole.delete("a")
            await whole.releaser.step()
            await whole.delete("b")
            plain = whole.records.apply

            async def overtaken(expected: Sequence[Row], changes: Sequence[Row]) -> bool:
                whole.records.apply = plain  # type: ignore[method-assign]
                await whole.send()  # takes what was counted for "a" away
                return await plain(expected, changes)

            whole.records.apply = overtaken  # type: ignore[method-assign]
            await whole.releaser.step()
            assert len(whole.untold()) == 6
            await whole.send()
            assert set((await whole.stored()).values()) == {0}

    simulate(run())


def test_no_deletion_is_told_before_the_receipts_of_what_it_deletes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "ROWS_MAX", 2)

    async def run() -> None:
        async with running() as whole:
            await whole.put("a", "b", "c")
            await whole.delete("a", "b", "c")
            await whole.releaser.step()
            assert await whole.outbox.step()
            assert len(whole.untold()) == 6
            await whole.send()
            assert whole.untold() == []
            assert set((await whole.stored()).values()) == {0}
            assert await whole.used() == 0

    simulate(run())


def test_a_batch_whose_answer_was_lost_is_sent_again_and_counted_once() -> None:
    async def run() -> None:
        async with running() as whole:
            version = await whole.put("a")
            with pytest.raises(ServiceUnavailable):
                await whole.outbox.certificate(version)
            whole.catalog.lose_next_answer = True
            with pytest.raises(CommitUncertain):
                await whole.outbox.step()  # fixed, not sent
            with pytest.raises(ServiceUnavailable):
                await whole.outbox.certificate(version)
            plain = whole.ledger.submit

            async def deaf(*arguments: object, **options: object) -> None:
                await plain(*arguments, **options)  # type: ignore[arg-type]
                raise Unreachable("the answer was lost")

            whole.ledger.submit = deaf  # type: ignore[assignment, method-assign]
            with pytest.raises(Unreachable):
                await whole.outbox.step()
            whole.ledger.submit = plain  # type: ignore[method-assign]
            await Outbox(whole.catalog, whole.ledger, GATEWAY).step()
            gateway = await whole.ledger.gateway(GATEWAY.id)
            assert gateway is not None
            assert gateway.batches == 2
            assert await whole.stored() == whole.on_disk()
            proof = await whole.outbox.certificate(version)
            leaf = certificate.verify(proof, whole.genesis)
            assert (leaf.version, leaf.operation) == (version_uid(version).hex(), "put")
            assert leaf.size == sum(whole.on_disk().values())

    simulate(run())


def test_each_version_of_a_batch_has_its_certificate_from_its_own_row() -> None:
    async def run() -> None:
        async with running() as whole:
            await whole.put("gone")
            versions = [await whole.put(key, size=10 + place) for place, key in enumerate("abc")]
            await whole.delete("gone")
            versions.append(
                await whole.objects.copy(versions[0], whole.bucket, "d", attributes=Attributes("x"))
            )
            await whole.send()
            for version in versions:
                found = whole.objects.head(whole.bucket, version.key)
                leaf = certificate.verify(await whole.outbox.certificate(found), whole.genesis)
                assert (leaf.version, leaf.fid) == (version.uid.hex(), version.fid)

    simulate(run())


def test_a_certificate_never_says_what_the_batch_does_not() -> None:
    async def run() -> None:
        async with running() as whole:
            version = await whole.put("a")
            await whole.send()
            row = decode(VersionRow, version.record)
            other = encode(msgspec.structs.replace(row, charged=row.charged + 1))
            with pytest.raises(NoSuchKey):
                await whole.outbox.certificate(msgspec.structs.replace(version, record=other))

    simulate(run())


def test_leaves_that_the_first_release_kept_still_give_certificates() -> None:
    async def run() -> None:
        async with running() as whole:
            version = await whole.put("a", "b")
            await whole.send()
            with whole.catalog.read() as reader:
                kept = reader.get(Space.BATCHES, (1).to_bytes(8, "big"))
                assert kept is not None
                height = msgspec.msgpack.decode(kept)[0]
                rows = [decode(VersionRow, raw) for _, raw in reader.scan(Space.LIVE, b"", None, 9)]
                owner = account_keys(reader, "ann").owner
            leaves = [
                Leaf(row.fid, row.uid.hex(), owner, row.lease, row.charged, height, "put").encoded()
                for row in rows
            ]
            old = Put(Space.BATCHES, (1).to_bytes(8, "big"), msgspec.msgpack.encode(leaves))
            await whole.catalog.commit(Batch((), [old]))
            proof = await whole.outbox.certificate(version)
            assert certificate.verify(proof, whole.genesis).fid == version.fid

    simulate(run())


@pytest.mark.parametrize("told", [True, False])
def test_a_lost_miner_is_written_off_once_and_the_others_go_on(*, told: bool) -> None:
    async def run() -> None:
        async with running() as whole:
            await whole.put("a", "b")
            await whole.send()
            lost = next(iter(whole.grid.stores))
            if told:
                await whole.ledger.submit(OPERATOR, DeclareLost(miner=lost))
                assert (await whole.stored())[lost] == 0
            whole.grid.directory.lose(lost)
            await whole.delete("a", "b")
            await whole.releaser.step()
            await whole.send()
            assert set((await whole.stored()).values()) == {0}

    simulate(run())


def test_an_idle_outbox_sends_nothing_and_a_full_one_sends_in_order() -> None:
    async def run() -> None:
        async with running() as whole:
            assert await whole.outbox.step() is False
            versions = [await whole.put(key, size=10) for key in "abcde"]
            assert await whole.outbox.step() is True
            assert await whole.outbox.step() is False
            with whole.catalog.read() as reader:
                places = [reader.get(Space.LEAVES, version_uid(v)) for v in versions]
                assert reader.scan(Space.OUTBOX, b"\x00", None, 1) == []
            assert places == sorted(filter(None, places))
            assert len(set(places)) == 5

    simulate(run())


@pytest.mark.parametrize("seed", range(4))
def test_batches_over_a_line_that_loses_doubles_and_delays_are_counted_once(seed: int) -> None:
    async def run() -> None:
        async with running() as whole:
            network = whole.grid.network
            network.random.seed(seed)
            failed = 0
            for key in "abcdefgh":
                await whole.put(key)
                network.degrade(
                    "chain", Faults(delay=(0.0, 2.0), loss=0.2, duplication=0.4, reset=0.1)
                )
                try:
                    await whole.outbox.step()
                except (Unreachable, RemoteError, TransactionFailed):
                    failed += 1
                network.degrade("chain", None)
            assert failed
            await asyncio.sleep(60)  # what is still on its way arrives
            await whole.send()
            assert await whole.stored() == whole.on_disk()
            assert await whole.used() == whole.charged()

    simulate(run())
