"""The lifecycle job over a whole object path in memory: what goes, what stays, and when."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import NoSuchKey, ServiceUnavailable
from gateway.jobs import JobRunner, job_states
from gateway.lifecycle import sweep
from gateway.lifecycle.rules import (
    DAY_NS,
    LIFECYCLE,
    Calendar,
    Expiration,
    Facts,
    Filter,
    Lifecycle,
    Noncurrent,
    Plan,
    Rule,
)
from gateway.lifecycle.sweep import Sweep
from gateway.model import ENABLED, Attributes, Extra, Lock
from gateway.records import JobRow
from tests.unit.object_parts import World, stream

ANY = Filter()


class Swept(World):
    """A world with a lifecycle job, and a few words to drive it."""

    calendar = Calendar()

    async def begin(self, *rules: Rule, versioning: str | None = None) -> "Swept":
        await self.start()
        await self.configure(*rules)
        if versioning:
            await self.objects.configure_bucket(self.bucket.name, versioning=versioning)
        self.bucket = self.objects.bucket(self.bucket.name)
        return self

    async def configure(self, *rules: Rule) -> None:
        stored = msgspec.msgpack.encode(Lifecycle(rules))
        await self.objects.set_setting(self.bucket, LIFECYCLE, stored)

    async def put(self, key: str, data: bytes = b"x", **attributes: object) -> str:
        made = await self.objects.put(
            self.bucket,
            key,
            stream(data),
            Attributes(**attributes),  # type: ignore[arg-type]
        )
        return made.version_id

    def runner(self) -> JobRunner:
        """A new process's."""
        job = Sweep(self.objects, self.catalog, self.clock, self.calendar, rate=1e9)
        return JobRunner(job, self.catalog, self.clock)

    def state(self) -> JobRow:
        with self.catalog.read() as reader:
            return dict(job_states(reader)).get("lifecycle", JobRow())

    async def run(self) -> int:
        """Steps up to the pass's end; how many there were. None begins twice a day."""
        steps = 0
        before = self.state().ended_ns
        while self.state().ended_ns == before:
            steps += 1
            assert steps < 1000
            if await self.runner().step() > 0.001:
                break
        return steps

    async def after(self, days: float) -> int:
        self.clock.ns += int(days * self.calendar.day_ns)
        return await self.run()

    def names(self) -> list[str]:
        return [each.key for each in self.objects.list_objects(self.bucket).objects]

    def versions(self) -> list[tuple[str, str]]:
        """(key, its version id, or "marker")."""
        found = self.objects.list_versions(self.bucket).versions
        return [(v.key, "marker" if v.deleted else v.version_id) for v in found]


def expires(days: int, where: Filter = ANY, name: str = "r") -> Rule:
    return Rule(name, True, where, expiration=Expiration(days=days))


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_PAGE", 3)


async def test_objects_go_at_the_midnight_behind_their_days() -> None:
    world = await Swept().begin(expires(2, Filter("a/")))
    for number in range(7):
        await world.put(f"a/{number}")
    await world.put("b/kept", bytes(100_000))
    await world.run()
    assert len(world.names()) == 8
    due = Calendar().after(world.clock.ns, 2)
    world.clock.ns = due - 1
    await world.run()
    assert len(world.names()) == 8
    world.clock.ns = due
    await world.run()
    assert world.names() == ["b/kept"]
    assert world.state().done == 7


async def test_a_pass_is_made_once_a_day_however_the_clock_jumps() -> None:
    world = await Swept().begin(expires(1))
    job = Sweep(world.objects, world.catalog, world.clock, Calendar(), rate=1e9)
    runner = JobRunner(job, world.catalog, world.clock)
    begun = []
    for hours in (0, 1, 5, 10, 20, 24 * 40, 24 * 40 + 1, 24 * 41, 3, 4):
        world.clock.ns = 20_000 * DAY_NS + hours * 3600 * 10**9
        before = world.state().ended_ns
        for _ in range(10):
            pause = await runner.step()
            assert 0 <= pause <= 60
            if pause > 0.001:
                break
        begun.append(world.state().ended_ns != before)
    # Forty days on, the next day, and back again: a pass each.
    assert begun == [True, False, False, False, False, True, False, True, True, False]


async def test_each_step_may_be_the_last_of_its_process() -> None:
    world = await Swept().begin(expires(1))
    for number in range(20):
        await world.put(f"{number:02}", bytes(20_000 * (number % 2)))
    world.clock.ns += 3 * DAY_NS
    while world.names():
        raw = world.state()
        job = Sweep(world.objects, world.catalog, world.clock, Calendar(), rate=1e9)
        await job.step(raw)  # killed before the row was written
        await world.runner().step()
    assert world.state().position
    await world.run()
    assert not world.used()
    # Another day: nothing is left to be done.
    done = world.state().done
    await world.after(1)
    assert world.state().done == done


async def test_what_was_overwritten_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await Swept().begin(expires(1))
    await world.put("k", b"old")
    world.clock.ns += 3 * DAY_NS
    expire = world.objects.expire

    async def overtaken(version, standing):  # type: ignore[no-untyped-def]
        await world.put("k", b"old")  # the same bytes, another version
        return await expire(version, standing)

    monkeypatch.setattr(world.objects, "expire", overtaken)
    await world.run()
    assert world.names() == ["k"]
    assert world.state().done == 0


async def test_what_waits_for_others_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await Swept().begin(expires(1))
    for number in range(7):
        await world.put(str(number))
    expire = world.objects.expire

    async def slow(version, standing):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0)
        return await expire(version, standing)

    monkeypatch.setattr(world.objects, "expire", slow)
    await world.after(2)
    assert world.state().done == 7


async def test_tags_and_sizes_choose() -> None:
    tagged = Filter(tags=(("k", "v"), ("l", "w")))
    world = await Swept().begin(
        expires(1, tagged, "t"), expires(1, Filter(above=10, below=20), "s")
    )
    await world.put("both", tags={"k": "v", "l": "w", "m": "x"})
    await world.put("one", tags={"k": "v"})
    await world.put("other", tags={"k": "v", "l": "x"})
    for size in (10, 11, 19, 20):
        await world.put(f"size{size}", bytes(size))
    await world.after(2)
    assert world.names() == ["one", "other", "size10", "size20"]


async def test_uploads_are_given_up_with_their_parts() -> None:
    world = await Swept().begin(Rule("r", True, Filter("a"), abort_days=1))
    uploads = [
        await world.objects.create_upload(world.bucket, key, Attributes())
        for key in ("a1", "a1", "a2", "a3", "a4", "b")
    ]
    for upload in uploads:
        await world.objects.put_part(upload, 1, stream(bytes(50_000)))
    used = world.used()
    await world.put("a5")
    await world.run()
    assert len(world.objects.list_uploads(world.bucket)[0]) == 6
    await world.after(2)
    left, _ = world.objects.list_uploads(world.bucket)
    assert [upload.key for upload in left] == ["b"]
    assert world.names() == ["a5"]
    assert world.state().done == 5
    assert world.used() < used / 5


async def test_with_versioning_an_expired_object_is_hidden_and_its_versions_go_later() -> None:
    world = await Swept().begin(
        expires(1), Rule("n", True, ANY, noncurrent=Noncurrent(3)), versioning=ENABLED
    )
    first = await world.put("k")
    await world.after(2)
    assert world.versions() == [("k", "marker"), ("k", first)]
    # The marker is not hidden behind another one, nor does it go while it hides something.
    await world.after(2)
    assert world.versions() == [("k", "marker"), ("k", first)]
    await world.after(2)
    assert world.versions() == []


@pytest.mark.parametrize("count", [8, 9, 10])  # with pages of three: a key begins a page, or not
async def test_the_newest_noncurrent_versions_are_left_alone(count: int) -> None:
    world = await Swept().begin(
        Rule("n", True, ANY, noncurrent=Noncurrent(1, 5)), versioning=ENABLED
    )
    made = [await world.put("k") for _ in range(count)]
    other = [await world.put("l") for _ in range(3)]
    await world.after(2)
    kept = [("k", each) for each in reversed(made[-6:])]
    assert world.versions() == [*kept, *(("l", each) for each in reversed(other))]


async def test_noncurrent_days_count_from_the_successor() -> None:
    world = await Swept().begin(Rule("n", True, ANY, noncurrent=Noncurrent(2)), versioning=ENABLED)
    old = await world.put("k")
    world.clock.ns += 50 * DAY_NS
    new = await world.put("k")
    await world.run()
    assert world.versions() == [("k", new), ("k", old)]
    await world.after(1)
    assert len(world.versions()) == 2
    await world.after(2)
    assert world.versions() == [("k", new)]


@pytest.mark.parametrize("alone", [True, False])
async def test_only_a_marker_that_hides_nothing_expires(alone: bool) -> None:
    rule = Rule("m", True, ANY, expiration=Expiration(marker=True))
    world = await Swept().begin(rule, versioning=ENABLED)
    first = await world.put("k")
    await world.objects.delete(world.bucket, "k")
    if alone:
        await world.objects.delete(world.bucket, "k", first)
    await world.run()
    assert world.versions() == ([] if alone else [("k", "marker"), ("k", first)])


async def test_what_a_lock_holds_stays_and_holds_up_nothing() -> None:
    world = await Swept().begin(Rule("n", True, ANY, noncurrent=Noncurrent(1)), versioning=ENABLED)
    held = Extra(lock=Lock("COMPLIANCE", world.clock.ns + 100 * DAY_NS))
    locked = await world.put("a", extra=held)
    for key in ("a", "b", "b", "c", "c"):
        await world.put(key)
    await world.after(3)
    assert [key for key, _ in world.versions()] == ["a", "a", "b", "c"]
    assert ("a", locked) in world.versions()
    assert not world.state().failures
    await world.after(100)
    assert [key for key, _ in world.versions()] == ["a", "b", "c"]


async def test_a_failure_is_tried_again_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await Swept().begin(expires(1))
    for number in range(9):
        await world.put(str(number))
    world.clock.ns += 3 * DAY_NS
    world.catalog.available = False
    runner = world.runner()
    await runner.step()
    world.catalog.available = True
    expire, calls = world.objects.expire, 0

    async def failing(version, standing):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ServiceUnavailable
        return await expire(version, standing)

    monkeypatch.setattr(world.objects, "expire", failing)
    while not world.state().failures:
        assert await runner.step() <= 1
    assert "ServiceUnavailable" in world.state().error
    assert world.names()
    while world.names():
        await runner.step()
    assert not world.state().failures


async def test_only_buckets_with_rules_are_gone_through_and_gone_ones_are_skipped() -> None:
    world = await Swept().begin(expires(1))
    others = [
        await world.objects.create_bucket(world.account, name) for name in ("aaa", "ppp", "zzz")
    ]
    stored = world.objects.setting(world.bucket, LIFECYCLE)
    await world.objects.set_setting(others[2], LIFECYCLE, stored)
    for bucket in (world.bucket, *others):
        for key in "klmn":
            await world.objects.put(bucket, key, stream(b"x"), Attributes())
    world.clock.ns += 3 * DAY_NS
    while len(world.names()) > 1:
        await world.runner().step()
    await world.objects.delete(world.bucket, "n")
    await world.objects.delete_bucket(world.bucket)  # with the pass in the middle of it
    await world.run()
    left = [len(world.objects.list_objects(bucket).objects) for bucket in others]
    assert left == [4, 4, 0]


async def test_short_days_are_days() -> None:
    world = Swept()
    world.calendar = Calendar(2 * 10**9)
    await world.begin(expires(3))
    await world.put("k")
    await world.after(2.9)
    assert world.names() == ["k"]
    await world.after(1)
    assert not world.names()


rule_lists = st.lists(
    st.builds(
        Rule,
        st.text("xyz", min_size=1, max_size=2),
        st.booleans(),
        st.builds(
            Filter,
            prefix=st.sampled_from([None, "a", "ab"]),
            tags=st.sampled_from([(), (("k", "v"),)]),
            above=st.sampled_from([None, 1]),
        ),
        expiration=st.none() | st.builds(Expiration, days=st.integers(1, 4)),
    ),
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(rule_lists, st.integers(0, 6), st.integers(0, DAY_NS - 1))
async def test_what_a_header_says_is_what_happens(
    rules: list[Rule], days: int, within: int
) -> None:
    """x-amz-expiration and the job agree: to the moment, for whatever rules."""
    world = await Swept().begin(*rules)
    plan = Plan(Lifecycle(tuple(rules)), Calendar())
    says = {}
    for key, data, tags in (
        ("a", b"", {}),
        ("ab", b"xx", {"k": "v"}),
        ("abc", b"xx", {}),
        ("b", b"x", {"k": "v", "l": "w"}),
    ):
        await world.put(key, data, tags=tags)
        version = world.objects.head(world.bucket, key)
        says[key] = plan.expiration(Facts(key, len(data), tags, version.modified_ns))
        world.clock.ns += DAY_NS // 3
    world.clock.ns += days * DAY_NS + within
    await world.run()
    expected = [key for key, due in says.items() if due is None or due.when_ns > world.clock.ns]
    assert world.names() == expected


async def test_what_is_gone_is_not_found() -> None:
    world = await Swept().begin(expires(1))
    await world.put("k")
    await world.after(3)
    with pytest.raises(NoSuchKey):
        world.objects.head(world.bucket, "k")
