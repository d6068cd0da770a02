"""Versions of a key: what is the latest, what is kept, what a removal brings back."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st

from gateway.catalog.interface import Batch, Put, Reader, Space
from gateway.errors import (
    BucketNotEmpty,
    KeyDeleted,
    MarkerNamed,
    NoSuchKey,
    NoSuchVersion,
    PreconditionFailed,
)
from gateway.listing import list_page
from gateway.model import (
    ENABLED,
    SUSPENDED,
    Attributes,
    CompletedPart,
    ObjectVersion,
    Position,
    Standing,
    WriteCondition,
)
from gateway.records import HeadRow, VersionRow, decode, parse_version_key, version_key
from gateway.version_listing import list_versions_page
from tests.unit.object_parts import MIB, FakePublisher, World, lease_bytes, stream

A = Attributes()
EMPTY = (
    Space.LIVE, Space.VERSIONS, Space.HEADS, Space.BODIES, Space.STREAMS, Space.PLACEMENT
)  # fmt: skip


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World().start()
    await versioning(world, ENABLED)
    yield world
    world.objects.close()


async def versioning(world: World, state: str) -> None:
    world.bucket = await world.objects.configure_bucket(world.bucket.name, versioning=state)


async def put(world: World, key: str, data: bytes, **options: Any) -> ObjectVersion:
    return await world.objects.put(world.bucket, key, stream(data), A, **options)


async def hide(world: World, key: str) -> ObjectVersion:
    """Delete a key; the marker."""
    deletion = await world.objects.delete(world.bucket, key)
    assert deletion
    assert deletion.marker
    return deletion.marker


async def erase(world: World, *versions: ObjectVersion) -> None:
    for version in versions:
        assert await world.objects.delete(world.bucket, version.key, version.version_id)


def listed(world: World, **options: Any) -> list[tuple[str, str, bool, bool]]:
    page = world.objects.list_versions(world.bucket, **options)
    return [(v.key, v.version_id, v.deleted, not v.superseded_ns) for v in page.versions]


def empty(world: World) -> bool:
    return not any(world.rows(space) for space in EMPTY) and world.used() == 0


# ---------------------------------------------------------------- one key
@pytest.mark.parametrize("size", [100, 20_000])
async def test_every_put_is_kept_until_it_is_removed_by_its_name(world: World, size: int) -> None:
    bodies = [random.Random(i).randbytes(size) for i in range(3)]
    made = [await put(world, "k", body) for body in bodies]
    assert len({version.version_id for version in made}) == 3
    for version, body in zip(made, bodies, strict=True):
        found = world.objects.head(world.bucket, "k", version.version_id)
        assert found == version
        assert await world.read(found) == body
    assert world.objects.head(world.bucket, "k") == made[2]
    assert world.used() == 3 * lease_bytes(size)
    assert listed(world) == [
        ("k", version.version_id, False, version is made[2]) for version in reversed(made)
    ]
    assert [found.key for found in world.objects.list_objects(world.bucket).objects] == ["k"]
    await erase(world, made[1])
    with pytest.raises(NoSuchVersion):
        world.objects.head(world.bucket, "k", made[1].version_id)
    await erase(world, made[2])
    assert world.objects.head(world.bucket, "k") == made[0]
    assert await world.read(world.objects.head(world.bucket, "k")) == bodies[0]
    await erase(world, made[0])
    assert empty(world)


async def test_a_delete_hides_and_its_removal_brings_back(world: World) -> None:
    made = await put(world, "k", b"1")
    deletion = await world.objects.delete(world.bucket, "k")
    assert deletion
    assert deletion.removed is None
    assert deletion.marker
    marker = deletion.marker
    with pytest.raises(KeyDeleted) as hidden:
        world.objects.head(world.bucket, "k")
    assert hidden.value.version_id == marker.version_id
    with pytest.raises(MarkerNamed):
        world.objects.head(world.bucket, "k", marker.version_id)
    with pytest.raises(MarkerNamed):
        await world.objects.amend(world.bucket, "k", marker.version_id, lambda a: a)
    assert world.objects.head(world.bucket, "k", made.version_id) == made
    assert not world.objects.list_objects(world.bucket).objects
    assert listed(world) == [
        ("k", marker.version_id, True, True), ("k", made.version_id, False, False)
    ]  # fmt: skip
    await erase(world, marker)
    assert world.objects.head(world.bucket, "k") == made
    assert not world.rows(Space.HEADS)


async def test_markers_pile_up_also_where_there_was_no_object(world: World) -> None:
    markers = [await hide(world, "never") for _ in range(3)]
    assert [v[1] for v in listed(world)] == [m.version_id for m in reversed(markers)]
    await erase(world, markers[1], markers[2])
    with pytest.raises(KeyDeleted):
        world.objects.head(world.bucket, "never")
    await erase(world, markers[0])
    with pytest.raises(NoSuchKey) as gone:
        world.objects.head(world.bucket, "never")
    assert not isinstance(gone.value, KeyDeleted)
    assert empty(world)


async def test_what_was_stored_before_versioning_is_the_null_version(world: World) -> None:
    before = await world.objects.create_bucket(world.account, "before")
    old = await world.objects.put(before, "k", stream(b"old"), A)
    assert old.version_id == "null"
    before = await world.objects.configure_bucket("before", versioning=ENABLED)
    new = await world.objects.put(before, "k", stream(b"new"), A)
    assert new.version_id != "null"
    found = world.objects.head(before, "k", "null")
    assert (found.uid, await world.read(found)) == (old.uid, b"old")
    assert await world.objects.delete(before, "k", "null")
    assert not world.rows(Space.HEADS)
    with pytest.raises(NoSuchVersion):
        world.objects.head(before, "k", "null")
    assert await world.objects.delete(before, "k", "null") is None


@pytest.mark.parametrize("size", [100, 20_000])
async def test_suspended_there_is_one_null_version_and_what_it_replaces_goes(
    world: World, size: int
) -> None:
    named = await put(world, "k", bytes(size))
    await versioning(world, SUSPENDED)
    for _ in range(3):
        null = await put(world, "k", bytes(size))
        assert null.version_id == "null"
        assert listed(world) == [
            ("k", "null", False, True), ("k", named.version_id, False, False)
        ]  # fmt: skip
        assert world.used() == 2 * lease_bytes(size)
    await versioning(world, ENABLED)
    newer = await put(world, "k", bytes(size))
    await versioning(world, SUSPENDED)
    # The null version is not the latest now, and is replaced all the same.
    deletion = await world.objects.delete(world.bucket, "k")
    assert deletion
    assert deletion.marker
    assert deletion.removed
    assert (deletion.marker.version_id, deletion.removed.uid) == ("null", null.uid)
    assert [v[1] for v in listed(world)] == ["null", newer.version_id, named.version_id]
    assert world.used() == 2 * lease_bytes(size)
    await put(world, "k", bytes(size))  # the marker goes as a version would
    assert [v[2] for v in listed(world)] == [False] * 3
    await erase(world, *world.objects.list_versions(world.bucket).versions)
    assert empty(world)


async def test_an_object_of_many_parts_is_kept_whole_behind_another(world: World) -> None:
    upload = await world.objects.create_upload(world.bucket, "k", A)
    parts = []
    for number in range(1, 11):
        data = bytes([number]) * (5 * MIB if number < 10 else 9)
        part = await world.objects.put_part(upload, number, stream(data, MIB))
        parts.append(CompletedPart(number, part.etag))
    large = await world.objects.complete_upload(upload, parts)
    whole = await world.read(large)
    small = await put(world, "k", b"small")
    assert await world.read(world.objects.head(world.bucket, "k", large.version_id)) == whole
    copied = await world.objects.copy(large, world.bucket, "k")
    assert len(listed(world)) == 3, "a version too long for LIVE is listed once"
    await erase(world, copied, small)
    found = world.objects.head(world.bucket, "k")
    assert (found, len(found.parts)) == (large, 10)
    assert await world.read(found) == whole
    await erase(world, large)
    assert empty(world)


async def test_rows_of_the_first_release_become_versions_once(world: World) -> None:
    """It kept every LIVE row a second time in VERSIONS."""
    await versioning(world, SUSPENDED)
    old = await put(world, "k", b"old")
    [(_, row)] = world.rows(Space.LIVE)
    own = version_key(world.bucket.id, b"k", old.sequence)
    await world.catalog.commit(Batch((), [Put(Space.VERSIONS, own, row)]))
    assert listed(world) == [("k", "null", False, True)]
    await versioning(world, ENABLED)
    new = await put(world, "k", b"new")
    assert [v[1] for v in listed(world)] == [new.version_id, "null"]
    await erase(world, new)
    assert listed(world) == [("k", "null", False, True)]
    await erase(world, world.objects.head(world.bucket, "k"))
    assert empty(world)


async def test_tags_are_of_one_version(world: World) -> None:
    first, second = await put(world, "k", b"1"), await put(world, "k", b"2")

    def tagged(attributes: Attributes) -> Attributes:
        return Attributes(tags={"n": "1"}, extra=attributes.extra)

    changed = await world.objects.amend(world.bucket, "k", first.version_id, tagged)
    assert (changed.version_id, changed.attributes.tags) == (first.version_id, {"n": "1"})
    assert world.objects.head(world.bucket, "k", first.version_id) == changed
    assert world.objects.head(world.bucket, "k") == second


async def test_a_bucket_with_a_marker_alone_is_not_empty(world: World) -> None:
    marker = await hide(world, "k")
    with pytest.raises(BucketNotEmpty):
        await world.objects.delete_bucket(world.bucket)
    await erase(world, marker)
    await world.objects.delete_bucket(world.bucket)


async def test_conditions_are_judged_against_the_latest_version(world: World) -> None:
    first, second = await put(world, "k", b"1"), await put(world, "k", b"2")
    old, new = WriteCondition(if_match=first.etag), WriteCondition(if_match=second.etag)
    create, exists = WriteCondition(if_none_match="*"), WriteCondition(if_match="*")
    for condition in (old, create):
        with pytest.raises(PreconditionFailed):
            await put(world, "k", b"3", condition=condition)
    # A deletion that names a version is about that one.
    for version_id, wrong in ((None, old), (first.version_id, new), (second.version_id, old)):
        with pytest.raises(PreconditionFailed):
            await world.objects.delete(world.bucket, "k", version_id, condition=wrong)
    deletion = await world.objects.delete(world.bucket, "k", condition=new)
    assert deletion
    assert deletion.marker
    for condition in (new, exists):
        with pytest.raises(NoSuchKey):
            await put(world, "k", b"3", condition=condition)
    with pytest.raises(PreconditionFailed):
        await world.objects.delete(world.bucket, "k", condition=new)
    assert await world.objects.delete(world.bucket, "k", condition=exists), "any version will do"
    await put(world, "k", b"3", condition=create)
    assert await world.objects.delete(world.bucket, "never", condition=exists)


async def test_what_expires_is_judged_in_the_commit(world: World) -> None:
    old, new = await put(world, "k", b"1"), await put(world, "k", b"2")
    expire = world.objects.expire
    for version, standing in (
        (old, Standing.LATEST), (new, Standing.NONCURRENT), (old, Standing.ALONE),
        (new, Standing.ALONE),
    ):  # fmt: skip
        assert await expire(version, standing) is None
    deletion = await expire(new, Standing.LATEST)
    assert deletion
    marker = deletion.marker
    assert marker
    assert await expire(marker, Standing.LATEST) is None
    assert await expire(marker, Standing.ALONE) is None
    for version in (old, new):
        assert await expire(version, Standing.NONCURRENT)
        assert await expire(version, Standing.NONCURRENT) is None
    assert await expire(marker, Standing.ALONE)
    assert empty(world)
    plain = await world.objects.create_bucket(world.account, "plain")
    gone = await world.objects.put(plain, "k", stream(b"1"), A)
    kept = await world.objects.put(plain, "k", stream(b"2"), A)
    assert await expire(gone, Standing.LATEST) is None, "another object has its name"
    assert await expire(kept, Standing.LATEST)
    assert not world.objects.list_versions(plain).versions


async def test_only_the_latest_version_is_on_ipfs() -> None:
    world = await World(publisher=FakePublisher()).start()
    await world.objects.configure_bucket("photos", publishes=True)
    await versioning(world, ENABLED)
    first = await put(world, "k", b"1")
    assert first.cid
    second = await put(world, "k", b"2")
    assert [key for key, _ in world.rows(Space.BLOCKS)] == [second.uid]
    assert world.objects.head(world.bucket, "k", first.version_id).cid is None
    marker = await hide(world, "k")
    assert not world.rows(Space.BLOCKS)
    jobs = len(world.rows(Space.JOBS))
    await erase(world, marker)
    assert len(world.rows(Space.JOBS)) == jobs + 1, "the indexer is asked to publish it again"
    world.objects.close()


async def test_the_ledger_hears_of_versions_and_not_of_markers(world: World) -> None:
    made = [await put(world, "k", b"1"), await put(world, "k", b"2")]
    marker = await hide(world, "k")
    assert len(world.rows(Space.OUTBOX)) == 2
    await erase(world, marker, *made)
    assert len(world.rows(Space.OUTBOX)) == 4


# ---------------------------------------------------------------- what lists cost
class Counting:
    """Counts the rows that a reader hands out."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.handed = 0

    def get(self, space: Space, key: bytes) -> bytes | None:
        self.handed += 1
        return self._reader.get(space, key)

    def counter(self, key: bytes) -> int:
        raise AssertionError(key)

    def scan(
        self, space: Space, start: bytes, end: bytes | None, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        rows = self._reader.scan(space, start, end, limit, reverse=reverse)
        self.handed += len(rows)
        return rows


async def test_a_list_of_objects_never_meets_what_is_not_the_latest(world: World) -> None:
    for n in range(300):
        await put(world, f"gone/{n}", b"1")
        await hide(world, f"gone/{n}")
    for _ in range(300):
        await put(world, "kept", b"1")
    with world.catalog.read() as reader:
        counting = Counting(reader)
        page = list_page(counting, world.bucket, b"", b"/", b"", 1000)
    assert ([o.key for o in page.objects], page.common_prefixes) == (["kept"], [])
    assert counting.handed == 1


async def test_a_page_of_versions_costs_what_it_returns(world: World) -> None:
    for n in range(400):
        await put(world, f"d/{n % 4}", b"1")
        await put(world, "e", b"1")
    start: Position | None = Position(b"")
    while start is not None:
        with world.catalog.read() as reader:
            counting = Counting(reader)
            page = list_versions_page(counting, world.bucket, b"", b"", start, 50)
        assert counting.handed <= 2 * len(page.versions) + 4
        start = page.next_start
    with world.catalog.read() as reader:
        counting = Counting(reader)
        page = list_versions_page(counting, world.bucket, b"", b"/", Position(b""), 2)
    assert (page.common_prefixes, len(page.versions)) == (["d/"], 1)
    assert counting.handed <= 4 * 16


# ---------------------------------------------------------------- many at once
def commit_later(world: World, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others commit between a snapshot and its commit."""
    at_once = world.catalog.commit

    async def later(batch: Batch) -> int:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        return await at_once(batch)

    monkeypatch.setattr(world.catalog, "commit", later)


async def test_neighbours_removed_at_once_are_all_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_later(world, random.Random(7), monkeypatch)
    for _ in range(20):
        made = [await put(world, "k", b"%d" % i) for i in range(4)]
        async with asyncio.TaskGroup() as group:
            for version in made:
                group.create_task(erase(world, version))
        assert empty(world)


@pytest.mark.parametrize("seed", range(6))
async def test_writers_and_deleters_of_one_key_make_one_order(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came first: of each key all rows agree, and nothing is lost or kept twice."""
    chance = random.Random(seed)
    commit_later(world, chance, monkeypatch)
    made: list[ObjectVersion] = []
    removed: set[str] = set()

    async def remove() -> None:
        version = chance.choice(made)
        if await world.objects.delete(world.bucket, "k", version.version_id):
            assert version.version_id not in removed, "removed twice"
            removed.add(version.version_id)

    async def one(i: int) -> None:
        await asyncio.sleep(0)
        match chance.randrange(4):
            case 0 | 1:
                made.append(await put(world, "k", b"%d" % i))
            case 2:
                made.append(await hide(world, "k"))
            case _ if made:
                await remove()

    async with asyncio.TaskGroup() as group:
        for i in range(60):
            group.create_task(one(i))
    left = sorted(
        (v for v in made if v.version_id not in removed), key=lambda v: -v.sequence
    )  # fmt: skip
    assert [v[1] for v in listed(world)] == [v.version_id for v in left], f"seed {seed}"
    if left and not left[0].deleted:
        assert world.objects.head(world.bucket, "k").version_id == left[0].version_id
    else:
        with pytest.raises(NoSuchKey):
            world.objects.head(world.bucket, "k")
    assert world.used() == sum(lease_bytes(v.size) for v in left if not v.deleted)
    consistent(world)
    await erase(world, *left)
    assert empty(world)


def consistent(world: World) -> None:
    """The four rules of gateway/history.py, over all rows of the bucket."""
    live = {key[16:]: decode(VersionRow, raw) for key, raw in world.rows(Space.LIVE)}
    heads = {key[16:]: decode(HeadRow, raw) for key, raw in world.rows(Space.HEADS)}
    kept: dict[bytes, list[VersionRow]] = {}
    for place, raw in world.rows(Space.VERSIONS):
        key, sequence = parse_version_key(place)
        row = decode(VersionRow, raw)
        assert row.sequence == sequence
        kept.setdefault(key, []).append(row)
    assert heads.keys() <= kept.keys()
    for key in live.keys() | kept.keys():
        rows, head = kept.get(key, []), heads.get(key, HeadRow(0, 0))
        latest = live.get(key)
        if latest is None:
            assert rows[0].deleted
            assert head.marker == rows[0].sequence
        else:
            assert not latest.deleted
            assert not head.marker
            assert all(row.sequence < latest.sequence for row in rows)
        nulls = [row.sequence for row in rows if row.version == "null"]
        assert nulls == ([head.null] if head.null else [])
        assert not nulls or latest is None or latest.version != "null"


# ---------------------------------------------------------------- against a model
KEYS = ["a", "a/b", "a/c", "b", "b\x00", "b\x00c", "ü"]


class VersionsMachine(stateful.RuleBasedStateMachine):
    """A versioned bucket against lists of (version id, body or None for a marker)."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world = self.runner.run(World().start())
        self.state = ""
        self.model: dict[str, list[tuple[str, bytes | None]]] = {}
        self.count = 0

    def teardown(self) -> None:
        self.world.objects.close()
        self.runner.close()

    def _push(self, key: str, version_id: str, body: bytes | None) -> None:
        assert (version_id == "null") is (self.state != ENABLED)
        versions = self.model.setdefault(key, [])
        if version_id == "null":
            versions[:] = [one for one in versions if one[0] != "null"]
        assert version_id not in [one[0] for one in versions]
        versions.insert(0, (version_id, body))

    @stateful.rule(key=st.sampled_from(KEYS), size=st.sampled_from([3, 17_000]))
    def put(self, key: str, size: int) -> None:
        self.count += 1
        body = random.Random(self.count).randbytes(size)
        made = self.runner.run(put(self.world, key, body))
        self._push(key, made.version_id, body)

    @stateful.rule(key=st.sampled_from(KEYS), source=st.sampled_from(KEYS), index=st.integers(0, 3))
    def copy(self, key: str, source: str, index: int) -> None:
        versions = [one for one in self.model.get(source, []) if one[1] is not None]
        if not versions:
            return
        name, body = versions[index % len(versions)]
        found = self.world.objects.head(self.world.bucket, source, name)
        made = self.runner.run(self.world.objects.copy(found, self.world.bucket, key))
        self._push(key, made.version_id, body)

    @stateful.rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        deletion = self.runner.run(self.world.objects.delete(self.world.bucket, key))
        if self.state:
            assert deletion
            assert deletion.marker
            self._push(key, deletion.marker.version_id, None)
        else:
            assert (deletion is not None) is bool(self.model.pop(key, None))

    @stateful.rule(key=st.sampled_from(KEYS), index=st.integers(0, 9))
    def erase(self, key: str, index: int) -> None:
        versions = self.model.get(key, [])
        name = versions[index % len(versions)][0] if versions else "null"
        deletion = self.runner.run(self.world.objects.delete(self.world.bucket, key, name))
        assert (deletion is not None) is bool(versions)
        if versions:
            versions[:] = [one for one in versions if one[0] != name]

    @stateful.rule(state=st.sampled_from([ENABLED, SUSPENDED]))
    def switch(self, state: str) -> None:
        self.state = state
        self.runner.run(versioning(self.world, state))

    @stateful.rule(seconds=st.integers(-100, 100))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.ns += seconds * 10**9

    @stateful.rule(
        limit=st.integers(1, 5), prefix=st.sampled_from(["", "a", "a/", "b"]),
        delimiter=st.sampled_from(["", "/", "\x00"]),
    )  # fmt: skip
    def pages(self, limit: int, prefix: str, delimiter: str) -> None:
        expected: list[tuple[str, str]] = []
        for key in sorted(key for key, versions in self.model.items() if versions):
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                group = (key[: cut + 1], "")
                expected += [group] if group not in expected else []
            else:
                expected += [(key, name) for name, _ in self.model[key]]
        got: list[tuple[str, str]] = []
        start: Position | None = Position(b"")
        while start is not None:
            page = self.world.objects.list_versions(
                self.world.bucket, prefix=prefix, delimiter=delimiter, start=start, limit=limit
            )
            rows = [(v.key, v.version_id) for v in page.versions]
            rows += [(group, "") for group in page.common_prefixes]
            assert len(rows) <= limit
            got += sorted(rows, key=lambda row: row[0].encode())
            for one in page.versions:
                assert (not one.superseded_ns) is (self.model[one.key][0][0] == one.version_id)
            start = page.next_start
        assert got == expected

    @stateful.invariant()
    def everything_is_as_the_model_says(self) -> None:
        world, bucket = self.world, self.world.bucket
        live = [k for k in sorted(KEYS) if self.model.get(k) and self.model[k][0][1] is not None]
        assert [o.key for o in world.objects.list_objects(bucket).objects] == live
        total = 0
        for key, versions in self.model.items():
            for name, body in versions:
                if body is None:
                    with pytest.raises(MarkerNamed):
                        world.objects.head(bucket, key, name)
                    continue
                found = world.objects.head(bucket, key, name)
                assert self.runner.run(world.read(found)) == body
                total += lease_bytes(len(body))
        assert world.used() == total
        consistent(world)


TestVersionsAgainstAModel = VersionsMachine.TestCase
TestVersionsAgainstAModel.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None
)
