"""Claims about the pinning service, over the real object service in memory."""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.cids import DAG_PB, RAW, SHA2_256, Cid
from chain.net.transport import Buffer
from gateway.catalog.interface import Batch, Put, Space
from gateway.errors import QuotaExceeded
from gateway.ipfs.codecs import car, dagpb
from gateway.ipfs.foreign.blocks import FetchFailed
from gateway.ipfs.index.publish import IpfsPublisher
from gateway.ipfs.index.tokens import API_BUCKET
from gateway.ipfs.pinning.documents import BadDocument, Wanted, parse_filter, parse_pin
from gateway.ipfs.pinning.fetching import Foreign
from gateway.ipfs.pinning.requests import QUEUE
from gateway.ipfs.pinning.worker import PAUSES, PinWorker
from gateway.model import Bucket
from tests.protocol.ipfs_api import Api
from tests.unit.object_parts import World

Block = tuple[Cid, bytes]
HEAD = {"content-type": "application/json"}


def leaf(data: bytes) -> Block:
    return Cid.of(RAW, SHA2_256, hashlib.sha256(data).digest()), data


def node(children: Sequence[Block]) -> Block:
    data = dagpb.encode([dagpb.Link(cid, "", 1) for cid, _ in children], None)
    return Cid.of(DAG_PB, SHA2_256, hashlib.sha256(data).digest()), data


LEAVES = [leaf(bytes([n]) * 300) for n in range(12)]
INNER = [node(LEAVES[:6]), node(LEAVES[4:])]
TOP = node(INNER)
DAG = [TOP, *INNER, *LEAVES]


class Elsewhere:
    """A trustless gateway; what it is told to send wrong it sends wrong."""

    def __init__(self, blocks: Sequence[Block], sent: bytes | None = None) -> None:
        self.blocks = dict(blocks)
        self.sent = sent  # instead of a CAR of all
        self.asked: list[Cid] = []
        self.cars = 0

    async def car(self, cid: Cid) -> AsyncGenerator[Buffer, None]:
        self.cars += 1
        raw = self.sent
        if raw is None:
            if cid not in self.blocks:
                raise FetchFailed("404")
            raw = packed(list(self.blocks.items()))
        for at in range(0, len(raw), 1000):
            yield raw[at : at + 1000]

    async def block(self, cid: Cid) -> bytes:
        self.asked.append(cid)
        if cid not in self.blocks:
            raise FetchFailed("404")
        return self.blocks[cid]


def packed(blocks: Sequence[Block]) -> bytes:
    sections = [car.section_head(cid, len(data)) + data for cid, data in blocks]
    return car.header([blocks[0][0]]) + b"".join(sections)


class Service:
    """The pinning service of an API port, and the process that works for it."""

    def __init__(self, api: Api, open: bool = True) -> None:
        self.api, self.world, self.pins = api, api.world, api.node.pins
        self.http = api.client(open)
        self.http.base_url = httpx.URL("http://api/psa/")

    def bucket(self) -> Bucket:
        return self.world.objects.bucket(API_BUCKET)

    async def add(self, cid: Cid, **more: Any) -> dict[str, Any]:
        got = await self.http.post("pins", json={"cid": str(cid), **more})
        assert got.status_code == 202, got.text
        said: dict[str, Any] = got.json()
        return said

    async def list(self, **query: Any) -> list[dict[str, Any]]:
        got = await self.http.get("pins", params=query)
        assert got.status_code == 200, got.text
        said = got.json()
        assert said["count"] >= len(said["results"])
        found: list[dict[str, Any]] = said["results"]
        return found

    async def status(self, id: str) -> dict[str, Any]:
        said: dict[str, Any] = (await self.http.get(f"pins/{id}")).json()
        return said

    def worker(self, *sources: Elsewhere) -> PinWorker:
        node = self.api.node
        foreign = Foreign(node.index, node.packs, sources)
        return PinWorker(self.world.objects, node.requests, node.pins, foreign, self.world.clock)

    async def work(self, *sources: Elsewhere) -> None:
        """One try of all that is due."""
        for place in self.api.node.requests.due(100):
            await self.worker(*sources).work(place)

    def has(self, blocks: Sequence[Block]) -> int:
        """How many of them are here."""
        return sum(self.api.node.index.block(cid) is not None for cid, _ in blocks)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    world = await World(publisher=IpfsPublisher()).start()
    api = Api(world)
    service = Service(api)
    yield service
    await api.http.aclose()
    await service.http.aclose()
    world.objects.close()


# ------------------------------------------------------------------ the protocol
async def test_a_request_is_told_in_the_words_of_the_specification(service: Service) -> None:
    meta, origins = {"app": "a"}, ["/ip4/203.0.113.1/tcp/4001/p2p/12D3KooW"]
    made = await service.add(TOP[0], name="top", meta=meta, origins=origins)
    assert set(made) == {"requestid", "status", "created", "pin", "delegates", "info"}
    assert made["status"] == "queued"
    assert made["created"].endswith("Z")
    [delegate] = made["delegates"]  # the specification's schema wants one
    assert delegate.startswith("/p2p/12D3KooW")
    assert made["pin"] == {"cid": str(TOP[0]), "name": "top", "meta": meta, "origins": origins}
    assert await service.status(made["requestid"]) == made
    assert await service.list() == []  # only what is pinned, where nothing is asked for
    assert await service.list(status="queued,failed") == [made]


async def test_lists_are_filtered_and_counted_newest_first(service: Service) -> None:
    made = []
    for number, name in enumerate(("Alpha", "beta", "alphabet")):
        made.append(await service.add(LEAVES[number][0], name=name, meta={"n": str(number)}))
        service.world.clock.ns += 10**9
    everything = {"status": "queued"}

    async def names(**query: Any) -> list[str]:
        return [each["pin"]["name"] for each in await service.list(**everything, **query)]

    assert await names() == ["alphabet", "beta", "Alpha"]
    assert await names(limit=1) == ["alphabet"]
    assert await service.list(name="beta") == [made[1]]
    assert await service.list(before=made[2]["created"]) == []
    both = f"pins?cid={LEAVES[0][0]}&cid={LEAVES[1][0]}&status=queued&status=failed"
    assert (await service.http.get(both)).json()["count"] == 2
    assert (await service.http.get("pins?status=queued&limit=1")).json()["count"] == 3
    assert await names(name="alpha") == []
    assert await names(name="alpha", match="iexact") == ["Alpha"]
    assert await names(name="alpha", match="partial") == ["alphabet"]
    assert await names(name="ALPHA", match="ipartial") == ["alphabet", "Alpha"]
    assert await names(cid=f"{LEAVES[0][0]},{LEAVES[2][0]}") == ["alphabet", "Alpha"]
    assert await names(meta='{"n": "1"}') == ["beta"]
    assert await names(before=made[1]["created"]) == ["Alpha"]
    assert await names(after=made[1]["created"]) == ["alphabet"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "status=done", "match=some", "cid=x", "before=now",
     "before=2026-01-01", "meta=[]", "meta={", "meta={\"a\":1}", "name=" + "n" * 256, "other=1",
     "cid=" + ",".join([str(TOP[0])] * 11), "limit=1&limit=2", "name=%ff"],
)  # fmt: skip
async def test_a_query_that_makes_no_sense_is_a_400(service: Service, query: str) -> None:
    got = await service.http.get(f"pins?{query}")
    assert (got.status_code, got.json()["error"]["reason"]) == (400, "BAD_REQUEST"), query


BAD_PINS: list[dict[str, Any]] = [
    {"name": 1}, {"name": "n" * 256}, {"origins": "a"}, {"origins": ["a"] * 21}, {"origins": [1]},
    {"meta": []}, {"meta": {"a": 1}}, {"name": "\ud800"}, {"meta": {"m": "x" * (256 << 10)}},
]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"{", b'{"cid": 1}', b'{"cid": "x"}',
     *(json.dumps({"cid": str(TOP[0])} | more).encode() for more in BAD_PINS)],
)  # fmt: skip
async def test_a_body_that_is_no_pin_is_a_400(service: Service, body: bytes) -> None:
    got = await service.http.post("pins", content=body)
    assert (got.status_code, got.json()["error"]["reason"]) == (400, "BAD_REQUEST")
    assert service.world.rows(Space.JOBS) == []


@given(st.binary(max_size=100), st.binary(max_size=100))
@settings(max_examples=200)
def test_any_bytes_are_a_pin_or_a_query_or_refused(body: bytes, query: bytes) -> None:
    for parse, data in ((parse_pin, body), (parse_filter, query)):
        try:
            parse(data)
        except BadDocument:
            continue


async def test_what_is_not_there_is_a_404_and_what_cannot_be_done_a_405(service: Service) -> None:
    for path in ("pins/" + "0" * 32, "pins/x", "pins/" + "é" * 32, "other", "pins/a/b"):
        got = await service.http.get(path)
        assert (got.status_code, got.json()["error"]["reason"]) == (404, "NOT_FOUND"), path
    assert (await service.http.delete("pins/" + "0" * 32)).status_code == 404
    got = await service.http.post("pins/" + "0" * 32, json={"cid": str(TOP[0])})
    assert got.status_code == 404
    got = await service.http.put("pins")
    assert (got.status_code, got.headers["allow"]) == (405, "GET, POST")


async def test_tokens_name_the_bucket_and_browsers_need_one(service: Service) -> None:
    objects = service.world.objects
    await objects.create_bucket(service.world.account, "mine")
    mine = await objects.configure_bucket("mine", publishes=True)
    _, text = await service.api.tokens.create(mine)
    closed = Service(service.api, open=False)
    got = await closed.http.get("pins")
    assert (got.status_code, got.json()["error"]["reason"]) == (401, "UNAUTHORIZED")
    closed.http.headers["authorization"] = f"Bearer {text}"
    made = await closed.add(TOP[0])
    assert await closed.list(status="queued") == [made]
    assert await service.list(status="queued") == []
    assert (await service.http.get(f"pins/{made['requestid']}")).status_code == 404
    origin = {"origin": "https://app.example"}
    assert (await closed.http.get("pins", headers=origin)).headers[
        "access-control-allow-origin"
    ] == "*"
    got = await service.http.get("pins", headers=origin)
    assert got.status_code == 403
    assert "access-control-allow-origin" not in got.headers
    preflight = await closed.http.options("pins", headers=origin)
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    await closed.http.aclose()


# ------------------------------------------------------------------ the work
async def test_what_is_here_is_pinned_without_fetching(service: Service) -> None:
    made = await service.add(TOP[0], name="top")
    await service.api.node.packs.store(service.bucket(), (), each(DAG))
    source = Elsewhere(DAG)
    await service.work(source)
    assert (await service.status(made["requestid"]))["status"] == "pinned"
    assert (source.cars, source.asked) == (0, [])
    assert [pin.name for pin in service.pins.list(service.bucket())] == ["top"]
    assert queue(service) == []


def queue(service: Service) -> list[bytes]:
    return [key for key, _ in service.world.rows(Space.JOBS) if key.startswith(QUEUE)]


async def each(blocks: Sequence[Block]) -> AsyncIterator[Block]:
    for block in blocks:
        yield block


async def test_a_foreign_dag_comes_as_one_car(service: Service) -> None:
    made = await service.add(TOP[0])
    source = Elsewhere(DAG)
    await service.work(Elsewhere([]), source)
    assert (await service.status(made["requestid"]))["status"] == "pinned"
    assert (source.cars, source.asked) == (1, [])
    assert service.has(DAG) == len(DAG)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        packed(DAG)[:-1],
        packed(DAG[:4]),
        packed([(LEAVES[0][0], b"another"), *DAG]),
        packed(list(reversed(DAG))),
        b"\xff" * 100,
    ],
)
async def test_what_a_car_lacks_comes_block_by_block(service: Service, sent: bytes) -> None:
    made = await service.add(TOP[0])
    source = Elsewhere(DAG, sent)
    await service.work(source)
    assert (await service.status(made["requestid"]))["status"] == "pinned"
    assert service.has(DAG) == len(DAG)


async def test_blocks_that_nobody_asked_for_are_not_stored(service: Service) -> None:
    other = leaf(b"not of this DAG")
    await service.add(TOP[0])
    await service.work(Elsewhere(DAG, packed([other, *DAG])))
    assert service.has(DAG) == len(DAG)
    assert service.has([other]) == 0


async def test_a_block_that_is_another_is_asked_of_the_next_gateway(service: Service) -> None:
    made = await service.add(TOP[0])
    liar = Elsewhere([(cid, b"lies") for cid, _ in DAG], b"")
    await service.work(liar, Elsewhere(DAG, b""))
    assert (await service.status(made["requestid"]))["status"] == "pinned"
    assert service.has(DAG) == len(DAG)


async def test_what_nobody_has_is_tried_again_and_fails_with_the_reason(service: Service) -> None:
    made = await service.add(TOP[0])
    lacking = Elsewhere(DAG[:-1])
    for pause in PAUSES:
        await service.work(lacking)
        said = await service.status(made["requestid"])
        assert said["status"] == "queued"
        assert str(LEAVES[-1][0]) in said["info"]["status_details"]
        assert service.api.node.requests.due(1) == []
        service.world.clock.ns += round(pause * 1e9)
    await service.work(lacking)
    assert (await service.status(made["requestid"]))["status"] == "failed"
    assert queue(service) == []
    assert service.pins.list(service.bucket()) == []
    assert lacking.cars == 1  # what came is here, so the rest is asked for by itself


async def test_without_gateways_a_foreign_cid_fails_at_once(service: Service) -> None:
    made = await service.add(TOP[0])
    await service.work()
    said = await service.status(made["requestid"])
    assert said["status"] == "failed"
    assert "fetch_from" in said["info"]["status_details"]


async def test_an_account_without_room_is_told_so(service: Service) -> None:
    made = await service.add(TOP[0])
    service.world.leases.ceiling = 1
    await service.work(Elsewhere(DAG))
    said = await service.status(made["requestid"])
    assert (said["status"], said["info"]["status_details"]) == ("failed", QuotaExceeded.message)


async def test_a_dag_beyond_the_bound_fails(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ipfs.pinning.fetching.BYTES_MAX", 2000)
    made = await service.add(TOP[0])
    await service.work(Elsewhere(DAG))
    said = await service.status(made["requestid"])
    assert said["status"] == "failed"
    assert "larger" in said["info"]["status_details"]


async def test_a_request_under_way_survives_a_restart(service: Service) -> None:
    """The process ends in the middle of a fetch: the next one goes on with what is stored."""
    made = await service.add(TOP[0])

    class Killed(BaseException):
        pass

    class Dying(Elsewhere):
        async def block(self, cid: Cid) -> bytes:
            if len(self.asked) == 9:
                raise Killed
            return await super().block(cid)

    monkey = pytest.MonkeyPatch()
    monkey.setattr("gateway.ipfs.pinning.fetching.PACK_BYTES", 8)
    with pytest.raises(BaseExceptionGroup):
        await service.work(Dying(DAG, b""))
    monkey.undo()
    assert (await service.status(made["requestid"]))["status"] == "pinning"
    assert 0 < service.has(DAG) < len(DAG)
    source = Elsewhere(DAG, b"")
    await service.work(source)
    assert (await service.status(made["requestid"]))["status"] == "pinned"
    assert 0 < len(source.asked) < len(DAG)
    got = await service.http.delete(f"pins/{made['requestid']}")
    assert (got.status_code, got.content) == (202, b"")
    assert service.pins.list(service.bucket()) == []


async def test_a_pin_goes_with_its_last_request_and_one_of_somebody_else_stays(
    service: Service,
) -> None:
    first, second = await service.add(TOP[0]), await service.add(TOP[0])
    await service.work(Elsewhere(DAG))
    await service.http.delete(f"pins/{first['requestid']}")
    assert len(service.pins.list(service.bucket())) == 1
    await service.http.delete(f"pins/{second['requestid']}")
    assert service.pins.list(service.bucket()) == []
    await service.pins.add(service.bucket(), TOP[0], name="by hand")
    third = await service.add(TOP[0])
    await service.work()
    assert (await service.status(third["requestid"]))["status"] == "pinned"
    await service.http.delete(f"pins/{third['requestid']}")
    assert [pin.name for pin in service.pins.list(service.bucket())] == ["by hand"]


async def test_a_request_that_is_deleted_while_it_is_worked_on_leaves_no_pin(
    service: Service,
) -> None:
    made = await service.add(TOP[0])

    class Slow(Elsewhere):
        async def car(self, cid: Cid) -> AsyncGenerator[Buffer, None]:
            await service.http.delete(f"pins/{made['requestid']}")
            async for data in super().car(cid):
                yield data

    await service.work(Slow(DAG))
    assert service.pins.list(service.bucket()) == []
    assert (await service.http.get(f"pins/{made['requestid']}")).status_code == 404
    assert queue(service) == []


async def test_a_request_is_replaced_in_one_step(service: Service) -> None:
    made = await service.add(TOP[0])
    await service.work(Elsewhere(DAG))
    got = await service.http.post(
        f"pins/{made['requestid']}", json={"cid": str(INNER[0][0]), "name": "new"}
    )
    assert got.status_code == 202
    assert got.json()["requestid"] != made["requestid"]
    assert (await service.http.get(f"pins/{made['requestid']}")).status_code == 404
    await service.work()
    assert [pin.cid for pin in service.pins.list(service.bucket())] == [INNER[0][0]]


async def test_a_bucket_has_so_many_requests_and_no_more(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ipfs.pinning.requests.REQUESTS_MAX", 2)
    made = [await service.add(TOP[0]) for _ in range(2)]
    got = await service.http.post("pins", json={"cid": str(TOP[0])})
    assert (got.status_code, got.json()["error"]["reason"]) == (409, "INSUFFICIENT_FUNDS")
    got = await service.http.post(f"pins/{made[0]['requestid']}", json={"cid": str(TOP[0])})
    assert got.status_code == 202
    await service.http.delete(f"pins/{made[1]['requestid']}")
    await service.add(TOP[0])


async def test_every_bucket_has_its_turn(service: Service) -> None:
    requests = service.api.node.requests
    for _ in range(5):
        await service.add(TOP[0])
    objects = service.world.objects
    for name in ("first", "second"):
        await objects.create_bucket(service.world.account, name)
        bucket = await objects.configure_bucket(name, publishes=True)
        for cid, _ in LEAVES[:2]:
            await requests.create(bucket, Wanted(cid))
    names = [name for _, name, _ in requests.due(3)]
    assert len(names) == 7
    assert {*names[:3]} == {*names[3:6]} == {"first", "second", API_BUCKET}
    assert len(requests.due(100)) == 9


async def test_the_queue_forgets_requests_of_buckets_that_are_gone(service: Service) -> None:
    made = await service.add(TOP[0])
    place = QUEUE + b"gone" * 4 + bytes.fromhex(made["requestid"])
    job = Put(Space.JOBS, place, dict(service.world.rows(Space.JOBS))[queue(service)[0]])
    await service.world.catalog.commit(Batch(changes=[job]))
    await service.work(Elsewhere(DAG))
    assert queue(service) == []
    assert (await service.status(made["requestid"]))["status"] == "pinned"
