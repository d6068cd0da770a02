"""What must hold when faults are mended and hours have passed."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from random import Random
from typing import TypeVar

import msgspec

from chain import certificate
from chain.client import LedgerClient
from chain.ids import SegmentId
from chain.ledger import records
from chain.ledger.records import Table
from chain.net.memory import MemoryTransport
from gateway import errors
from gateway.catalog.interface import Reader, Space
from gateway.model import ObjectVersion
from gateway.objects import ObjectService
from gateway.outbox import Outbox
from gateway.reading import DataDamaged
from gateway.records import (
    BucketRow,
    PartRow,
    StreamRow,
    VersionRow,
    decode,
    used_counter,
    version_key,
)
from gateway.transaction import segments_of
from miner.fragment import fragment_key
from miner.placement import Placement
from tests.simulation.whole.gateways import Gateway, Worker
from tests.simulation.whole.load import number_of
from tests.simulation.whole.model import ABSENT, Content
from tests.simulation.whole.network import SimulatedNetwork

R = TypeVar("R", bound=msgspec.Struct)
_ALL = 1 << 20
# Queues that are empty once their work is done.
QUEUES = (Space.REPAIRS, Space.RELEASES, Space.RELEASED, Space.OUTBOX, Space.JOBS)
PENDING = b"outbox/pending"
CERTIFICATES = 2


async def check(network: SimulatedNetwork) -> list[str]:
    """Everything that is not as promised, one sentence each. The load must have ended."""
    problems = await check_contents(network)
    placements: list[Rows] = []
    for gateway in network.gateways:
        with gateway.catalog.read() as reader:
            rows = Rows(reader)
        problems += queues(rows)
        problems += references(rows)
        problems += _charges(gateway, rows)
        problems += _metered(network, gateway, rows)
        problems += [problem async for problem in _certificates(network, gateway)]
        placements.append(rows)
    problems += [problem async for problem in _fragments(network, placements)]
    problems += _tokens(network)
    problems += _holdings(network)
    return problems


class Rows:
    """The catalog's rows of one state, as the checks look at them."""

    def __init__(self, reader: Reader) -> None:
        self.queues = {space: reader.scan(space, b"\x00", None, _ALL) for space in QUEUES}
        self.pending = reader.get(Space.META, PENDING)
        self.counters = {
            key: reader.counter(key) for key, _ in reader.scan(Space.COUNTERS, b"\x00", None, _ALL)
        }
        live = [
            (key, decode(VersionRow, raw))
            for key, raw in reader.scan(Space.LIVE, b"\x00", None, _ALL)
        ]
        long = {
            key: decode(VersionRow, raw)
            for key, raw in reader.scan(Space.VERSIONS, b"\x00", None, _ALL)
        }
        places = [version_key(key[:16], key[16:], row.sequence) for key, row in live]
        self.versions = [long.pop(place, row) for place, (_, row) in zip(places, live, strict=True)]
        buckets = [
            decode(BucketRow, raw) for _, raw in reader.scan(Space.BUCKETS, b"\x00", None, _ALL)
        ]
        versioned = {bucket.id for bucket in buckets if bucket.versioning}
        kept = {place: row for place, row in long.items() if place[:16] in versioned}
        self.versions += [row for row in kept.values() if not row.deleted]
        self.orphans = len(long) - len(kept)
        self.parts = [
            decode(PartRow, raw) for _, raw in reader.scan(Space.PARTS, b"\x00", None, _ALL)
        ]
        self.streams = {
            key: decode(StreamRow, raw)
            for key, raw in reader.scan(Space.STREAMS, b"\x00", None, _ALL)
        }
        self.bodies = {key for key, _ in reader.scan(Space.BODIES, b"\x00", None, _ALL)}
        self.placements = {
            key: Placement.parse(raw)
            for key, raw in reader.scan(Space.PLACEMENT, b"\x00", None, _ALL)
        }


# ---------------------------------------------------------------- what clients may read
async def check_contents(network: SimulatedNetwork) -> list[str]:
    """What cannot be read as it was stored."""
    return [problem for gateway in network.gateways async for problem in _contents(gateway)]


async def _contents(gateway: Gateway) -> AsyncIterator[str]:
    """Every key, byte for byte, from the miners and through an edge."""
    model = gateway.model
    for worker in (gateway.workers[-1], gateway.workers[0]):
        for (bucket, key), state in model.keys.items():
            may = state.may_hold()
            try:
                found, data = await _read(worker, bucket, key)
            except (errors.SlowDown, errors.ServiceUnavailable, DataDamaged) as error:
                yield f"{bucket}/{key} cannot be read by {worker.name}: {error!r}"
                continue
            if found not in may:
                yield f"{bucket}/{key} holds {found}, not one of {sorted(map(str, may))}"
            elif found is not ABSENT and data != model.bodies[found]:
                yield f"{bucket}/{key}: {worker.name} reads wrong bytes of #{found}"
            state.settle(found)


async def _read(worker: Worker, bucket: str, key: str) -> tuple[Content, bytes]:
    async def read(objects: ObjectService) -> tuple[Content, bytes]:
        try:
            version = objects.head(objects.bucket(bucket), key)
        except errors.NoSuchKey:
            return ABSENT, b""
        pieces = [bytes(piece) async for piece in objects.read(version)]
        return number_of(version), b"".join(pieces)

    return await worker.request(read)


# ---------------------------------------------------------------- the catalog's rows
def queues(rows: Rows) -> Iterator[str]:
    """Nothing waits any more."""
    for space, waiting in rows.queues.items():
        if waiting:
            yield f"{len(waiting)} rows stay in {space.name}"
    if rows.pending is not None:
        yield "an object batch is still pending"


def references(rows: Rows) -> Iterator[str]:
    """Each stream has as many users as it counts; each placement belongs to a stream."""
    users: dict[bytes, int] = {}
    inline: set[bytes] = set()
    streams = [stream for version in rows.versions for stream in version.streams]
    for stream in [*streams, *(part.stream for part in rows.parts)]:
        if stream.inline:
            inline.add(stream.id)
        else:
            users[stream.id] = users.get(stream.id, 0) + 1
    counted = {key: row.references for key, row in rows.streams.items()}
    if counted != users:
        yield f"{len(counted.items() ^ users.items())} streams count other users than they have"
    if inline != rows.bodies:
        yield f"{len(inline ^ rows.bodies)} inline bodies without a user, or users without a body"
    named = {segment.id for row in rows.streams.values() for segment in segments_of(row)}
    if named != rows.placements.keys():
        yield f"{len(named ^ rows.placements.keys())} segments without a place, or places without"
    if rows.orphans:
        yield f"{rows.orphans} rows of versions that no key has"


def _charges(gateway: Gateway, rows: Rows) -> Iterator[str]:
    """The counter of the lease is the sum over what it pays for."""
    lease = gateway.lease().id
    charged = [row.charged for row in rows.versions if row.lease == lease]
    charged += [row.charged for row in rows.parts if row.lease == lease]
    counter = rows.counters.get(used_counter(lease), 0)
    if counter != sum(charged):
        yield f"the lease counts {counter} bytes, its objects {sum(charged)}"


# ---------------------------------------------------------------- the miners' disks
async def _fragments(network: SimulatedNetwork, catalogs: list[Rows]) -> AsyncIterator[str]:
    """Each fragment on a disk is named by a placement of a gateway, and the other way round."""
    named: dict[bytes, set[bytes]] = {}
    for segment, placement in [item for rows in catalogs for item in rows.placements.items()]:
        for index, holder in enumerate(placement.holders):
            if holder.miner is not None:
                key = fragment_key(SegmentId(segment), index)
                named.setdefault(holder.miner, set()).add(key)
    for miner in network.miners:
        held = set(miner.store.keys())
        wanted = named.pop(miner.identity.id, set())
        if held - wanted:
            yield f"{miner.name} keeps {len(held - wanted)} fragments that nothing refers to"
        if wanted - held:
            yield f"{miner.name} does not hold {len(wanted - held)} fragments that it should"
        if damaged := await miner.store.damaged(sorted(held)):
            yield f"{miner.name} holds {len(damaged)} damaged fragments"
    if named:
        yield f"{sum(map(len, named.values()))} fragments are named at miners that are gone"


# ---------------------------------------------------------------- the ledger
def _tokens(network: SimulatedNetwork) -> Iterator[str]:
    """All tokens of the genesis are somewhere, and each pot is the sum over what it is for."""
    table = _tables(network)
    totals = table(records.TOTALS)[records.SINGLETON]
    held = sum(account.balance for account in table(records.ACCOUNTS).values())
    pots = totals.treasury + totals.leases + totals.bids + totals.collateral + totals.burned
    made = sum(purse.balance for purse in network.genesis.accounts)
    if not totals.supply == made == held + pots:
        yield f"{made} tokens were made, {held} are held and {pots} in the ledger's pots"
    bids, miners = table(records.BIDS), table(records.MINERS)
    if totals.bids != sum(bid.escrow for bid in bids.values()):
        yield "the tokens of bids are not what is held for each bid"
    if totals.collateral != sum(miner.stake for miner in miners.values()):
        yield "the tokens of collateral are not the miners' stakes"
    awarded = sum(bid.size for bid in bids.values() if bid.state == "won")
    leased = awarded + sum(lease.size for lease in table(records.LEASES).values())
    (market,) = table(records.MARKET).values()
    if market.leased != leased:
        yield f"the market counts {market.leased} leased bytes, there are {leased}"


def _metered(network: SimulatedNetwork, gateway: Gateway, rows: Rows) -> Iterator[str]:
    """The ledger knows the bytes that objects take."""
    lease = _tables(network)(records.LEASES)[gateway.lease().id]
    charged = sum(row.charged for row in rows.versions)
    if lease.used != charged:
        yield f"the ledger meters {lease.used} bytes, objects take {charged}"


def _holdings(network: SimulatedNetwork) -> Iterator[str]:
    """The ledger adds up what gateways say that miners store."""
    table = _tables(network)
    holdings: dict[bytes, int] = {}
    for key, holding in table(records.HOLDINGS).items():
        holdings[key[:32]] = holdings.get(key[:32], 0) + holding.size
    stored = {key: row.stored_bytes for key, row in table(records.MINERS).items()}
    if holdings != {key: size for key, size in stored.items() if size}:
        yield "what miners store is not the sum over gateways"


def _tables(network: SimulatedNetwork) -> Callable[[Table[R]], dict[bytes, R]]:
    """All records of a table of the committed state, by key."""

    def read(table: Table[R]) -> dict[bytes, R]:
        start = table.prefix
        with network.ledger.store.read() as view:
            found = view.scan("state", start, bytes([start[0] + 1]))
            return {key[1:]: records.decode(table, raw) for key, raw in found}

    return read


async def _certificates(network: SimulatedNetwork, gateway: Gateway) -> AsyncIterator[str]:
    """What is registered can be proven."""
    transport = MemoryTransport(network.links, name="notary")
    ledger = LedgerClient(transport.connect("memory://chain"), network.genesis)
    outbox = Outbox(gateway.catalog, ledger, gateway.site.gateway)

    async def head(objects: ObjectService) -> list[ObjectVersion]:
        found = []
        for bucket, key in gateway.model.keys:
            with suppress(errors.NoSuchKey):
                found.append(objects.head(objects.bucket(bucket), key))
        return found

    versions = await gateway.workers[-1].request(head)
    for version in Random(len(versions)).sample(versions, min(CERTIFICATES, len(versions))):
        try:
            raw = await outbox.certificate(version)
            certificate.verify(raw, network.genesis)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no proof
            yield f"no certificate of {version.uid.hex()}: {error!r}"
    await transport.close()
