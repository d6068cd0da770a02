"""Object lock: nothing takes a locked version away before its time, whoever asks."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import (
    AccessDenied,
    InvalidBucketState,
)
from gateway.model import (
    ENABLED,
    OBJECT_LOCK,
    SUSPENDED,
    Attributes,
    Extra,
    Lock,
    ObjectVersion,
    Standing,
)
from gateway.retention import (
    COMPLIANCE,
    GOVERNANCE,
    LockSetting,
    check_removal,
    default_lock,
    hold,
    is_retained,
    retain,
)
from gateway.s3.errors import ProtocolError
from gateway.s3.lock_documents import parse_setting, setting_document
from tests.unit.object_parts import World, stream

SECOND = 10**9
DAY = 86_400 * SECOND
NOW = 1_800_000_000 * SECOND
MODES = st.sampled_from(["", GOVERNANCE, COMPLIANCE])
TIMES = st.integers(NOW - 2 * DAY, NOW + 2 * DAY)
LOCKS = st.none() | st.builds(
    lambda mode, until, on: Lock(mode, until if mode else 0, on),
    MODES, TIMES, st.sampled_from([None, False, True]),
)  # fmt: skip


def refused(call: Callable[..., Any], *args: Any, **named: Any) -> bool:
    try:
        call(*args, **named)
    except AccessDenied:
        return True
    return False


# ---------------------------------------------------------------- the rules
@given(LOCKS, st.booleans())
def test_a_version_goes_only_when_nothing_keeps_it(lock: Lock | None, bypass: bool) -> None:
    kept = lock is not None and (
        bool(lock.hold)
        or (lock.until_ns > NOW and not (bypass and lock.mode == GOVERNANCE))
    )  # fmt: skip
    assert refused(check_removal, lock, NOW, bypass=bypass) is kept


@given(LOCKS, MODES, TIMES, st.booleans())
def test_a_retention_only_grows_unless_governance_is_bypassed(
    lock: Lock | None, mode: str, until: int, bypass: bool
) -> None:
    until = until if mode else 0
    running = lock is not None and lock.until_ns > NOW
    if refused(retain, lock, mode, until, NOW, bypass=bypass):
        assert lock
        assert running
        assert lock.mode == COMPLIANCE or not bypass
        assert (mode, until) < (lock.mode, lock.until_ns) or mode != lock.mode or (
            until < lock.until_ns
        )  # fmt: skip
        return
    made = retain(lock, mode, until, NOW, bypass=bypass)
    assert (made.mode, made.until_ns) == (mode, until)
    assert made.hold == (lock.hold if lock else None)
    if lock and running and not (bypass and lock.mode == GOVERNANCE):
        assert made.mode == lock.mode
        assert made.until_ns >= lock.until_ns


@given(LOCKS, st.booleans())
def test_a_legal_hold_leaves_the_retention(lock: Lock | None, on: bool) -> None:
    made = hold(lock, on=on)
    assert made.hold is on
    assert (made.mode, made.until_ns) == ((lock.mode, lock.until_ns) if lock else ("", 0))


def test_a_default_retention_counts_days_or_calendar_years() -> None:
    assert default_lock(LockSetting(), NOW) is None
    days = default_lock(LockSetting(GOVERNANCE, days=3), NOW + 7)
    assert days == Lock(GOVERNANCE, NOW + 7 + 3 * DAY)
    leap = int(datetime(2028, 2, 29, 12, tzinfo=UTC).timestamp()) * SECOND
    years = default_lock(LockSetting(COMPLIANCE, years=1), leap)
    assert years
    assert datetime.fromtimestamp(years.until_ns / SECOND, UTC) == datetime(
        2029, 3, 1, 12, tzinfo=UTC
    )
    century = default_lock(LockSetting(COMPLIANCE, years=100), NOW)
    assert century
    assert century.until_ns < 1 << 63
    assert is_retained(century, NOW + 99 * 365 * DAY)


# ---------------------------------------------------------------- documents
SETTINGS = st.builds(
    lambda mode, days, years: LockSetting(mode, days, 0 if days else years),
    st.sampled_from([GOVERNANCE, COMPLIANCE]), st.integers(0, 36_500), st.integers(1, 100),
) | st.just(LockSetting())  # fmt: skip


@given(SETTINGS)
def test_a_configuration_makes_the_round_trip(setting: LockSetting) -> None:
    assert parse_setting(setting_document(setting)) == setting


RULE = "<Rule><DefaultRetention>{}</DefaultRetention></Rule>"


@pytest.mark.parametrize(
    ("inside", "code"),
    [
        ("", "MalformedXML"),
        ("<ObjectLockEnabled>Disabled</ObjectLockEnabled>", "MalformedXML"),
        (RULE.format("<Mode>GOVERNANCE</Mode>"), "MalformedXML"),
        (RULE.format("<Mode>governance</Mode><Days>1</Days>"), "MalformedXML"),
        (RULE.format("<Days>1</Days>"), "MalformedXML"),
        (RULE.format("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), "MalformedXML"),
        (RULE.format("<Mode>GOVERNANCE</Mode><Days>x</Days>"), "MalformedXML"),
        (RULE.format("<Mode>GOVERNANCE</Mode><Days>0</Days>"), "InvalidRetentionPeriod"),
        (RULE.format("<Mode>GOVERNANCE</Mode><Years>-1</Years>"), "InvalidRetentionPeriod"),
        (RULE.format("<Mode>GOVERNANCE</Mode><Years>101</Years>"), "InvalidRetentionPeriod"),
        (RULE.format(f"<Mode>GOVERNANCE</Mode><Days>{'9' * 30}</Days>"), "InvalidRetentionPeriod"),
        ("<Rule/>", "MalformedXML"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(inside: str, code: str) -> None:
    if "Disabled" not in inside and inside:
        inside = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>" + inside
    document = f"<ObjectLockConfiguration>{inside}</ObjectLockConfiguration>".encode()
    with pytest.raises(ProtocolError) as caught:
        parse_setting(document)
    assert caught.value.code == code


@given(st.binary(max_size=200))
def test_garbage_is_never_a_configuration(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_setting(data)


# ---------------------------------------------------------------- versions
@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World().start()
    world.bucket = await world.objects.create_bucket(
        world.account, "locked", settings={OBJECT_LOCK: setting(LockSetting())}
    )
    yield world
    world.objects.close()


def setting(value: LockSetting) -> bytes:
    return msgspec.msgpack.encode(value)


async def put(world: World, lock: Lock | None = None, key: str = "k") -> ObjectVersion:
    attributes = Attributes(extra=Extra(lock=lock) if lock else None)
    return await world.objects.put(world.bucket, key, stream(b"1"), attributes)


def lock_of(version: ObjectVersion) -> Lock | None:
    return version.attributes.extra.lock if version.attributes.extra else None


@pytest.mark.parametrize("mode", [GOVERNANCE, COMPLIANCE, ""])
async def test_every_way_of_removal_asks_the_lock(world: World, mode: str) -> None:
    """Mode "" is a legal hold."""
    delete, expire = world.objects.delete, world.objects.expire
    until = world.clock.ns + DAY
    lock = Lock(mode, until) if mode else Lock(hold=True)
    versions = [await put(world, lock), await put(world, lock)]
    for version in versions:
        with pytest.raises(AccessDenied):
            await delete(world.bucket, "k", version.version_id)
    with pytest.raises(AccessDenied):
        await expire(versions[0], Standing.NONCURRENT)
    deletion = await delete(world.bucket, "k")
    assert deletion
    assert deletion.marker, "hiding is no removal"
    assert await delete(world.bucket, "k", deletion.marker.version_id)
    if mode != GOVERNANCE:
        with pytest.raises(AccessDenied):
            await delete(world.bucket, "k", versions[0].version_id, bypass=True)
        world.clock.ns = until
    if not mode:
        for version in versions:
            await world.objects.amend(world.bucket, "k", version.version_id, lambda _: Attributes())
    for version in versions:
        assert await delete(world.bucket, "k", version.version_id, bypass=True)
    assert not world.objects.list_versions(world.bucket).versions


async def test_a_null_version_under_hold_is_not_replaced_when_versioning_came_later() -> None:
    world = await World().start()
    world.bucket = await world.objects.create_bucket(world.account, "later")
    await put(world)
    world.bucket = await world.objects.configure_bucket("later", versioning=ENABLED)
    await world.objects.set_setting(world.bucket, OBJECT_LOCK, setting(LockSetting()))
    await world.objects.amend(
        world.bucket, "k", "null", lambda _: Attributes(extra=Extra(lock=Lock(hold=True)))
    )
    await put(world)
    with pytest.raises(AccessDenied):
        await world.objects.delete(world.bucket, "k", "null")
    with pytest.raises(InvalidBucketState):
        await world.objects.configure_bucket("later", versioning=SUSPENDED)
    world.objects.close()


async def test_only_a_bucket_with_versioning_gets_object_lock(world: World) -> None:
    plain = await world.objects.create_bucket(world.account, "plain")
    for state in ("", SUSPENDED):
        if state:
            plain = await world.objects.configure_bucket("plain", versioning=state)
        with pytest.raises(InvalidBucketState):
            await world.objects.set_setting(plain, OBJECT_LOCK, setting(LockSetting()))
    plain = await world.objects.configure_bucket("plain", versioning=ENABLED)
    await world.objects.set_setting(plain, OBJECT_LOCK, setting(LockSetting()))
    with pytest.raises(InvalidBucketState):
        await world.objects.configure_bucket("plain", versioning=SUSPENDED)


async def test_the_bucket_s_retention_is_put_on_what_was_not_given_one(world: World) -> None:
    await world.objects.set_setting(
        world.bucket, OBJECT_LOCK, setting(LockSetting(GOVERNANCE, days=2))
    )
    default = Lock(GOVERNANCE, world.clock.ns + 2 * DAY)
    assert lock_of(await put(world)) == default
    own = Lock(COMPLIANCE, world.clock.ns + 9 * DAY, hold=True)
    made = await put(world, own)
    assert lock_of(made) == own
    held = Lock(default.mode, default.until_ns, hold=True)
    assert lock_of(await put(world, Lock(hold=True))) == held
    copied = await world.objects.copy(made, world.bucket, "copy")
    assert lock_of(copied) == default, "a lock is not copied"
    stored = world.objects.head(world.bucket, "copy")
    assert lock_of(stored) == default


async def test_a_retention_that_comes_between_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await put(world)
    at_once, times = world.catalog.commit, 0

    async def overtaken(batch: Any) -> int:
        nonlocal times
        times += 1
        if times == 1:
            lock = Extra(lock=Lock(COMPLIANCE, world.clock.ns + DAY))
            await world.objects.amend(
                world.bucket, "k", version.version_id, lambda _: Attributes(extra=lock)
            )
        return await at_once(batch)

    monkeypatch.setattr(world.catalog, "commit", overtaken)
    with pytest.raises(AccessDenied):
        await world.objects.delete(world.bucket, "k", version.version_id)
    assert times == 2
