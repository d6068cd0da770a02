"""Object lock: what keeps a version from being removed, how long, and who may shorten that. Pure.

A version goes only when neither a legal hold nor a retention keeps it. Governance gives way to who
may bypass it; compliance to nobody before its time.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from gateway.errors import AccessDenied
from gateway.model import Lock

GOVERNANCE, COMPLIANCE = "GOVERNANCE", "COMPLIANCE"
MODES = frozenset({GOVERNANCE, COMPLIANCE})
_SECOND = 1_000_000_000


class LockSetting(msgspec.Struct, frozen=True, array_like=True):
    """The bucket's setting `object-lock`, as MessagePack: what its new versions get, if anything.

    The period is days, or else years; mode "" is no retention.
    """

    mode: str = ""
    days: int = 0
    years: int = 0


@lru_cache(maxsize=256)
def kept_setting(stored: bytes) -> LockSetting:
    """The setting from what is stored."""
    return msgspec.msgpack.decode(stored, type=LockSetting)


def default_lock(setting: LockSetting, now_ns: int) -> Lock | None:
    """The lock of a version that is made now and was not given one."""
    if not setting.mode:
        return None
    if setting.days:
        return Lock(setting.mode, now_ns + setting.days * 86_400 * _SECOND)
    now = datetime.fromtimestamp(now_ns // _SECOND, UTC)
    try:
        later = now.replace(year=now.year + setting.years)
    except ValueError:  # the 29th of February
        later = now.replace(year=now.year + setting.years, month=3, day=1)
    return Lock(setting.mode, int(later.timestamp()) * _SECOND + now_ns % _SECOND)


def is_retained(lock: Lock | None, now_ns: int) -> bool:
    """Whether a retention has not run out."""
    return lock is not None and bool(lock.mode) and now_ns < lock.until_ns


def check_removal(lock: Lock | None, now_ns: int, *, bypass: bool) -> None:
    """Raises AccessDenied while something keeps a version. `bypass`: governance does not."""
    if lock is None:
        return
    governed = lock.mode == GOVERNANCE and bypass
    if lock.hold or (is_retained(lock, now_ns) and not governed):
        raise AccessDenied("Access Denied because object protected by object lock.")


def retain(lock: Lock | None, mode: str, until_ns: int, now_ns: int, *, bypass: bool) -> Lock:
    """A version's lock with another retention; mode "" takes the retention away.

    Raises AccessDenied where that would weaken a retention that has not run out.
    """
    lock = lock or Lock()
    if is_retained(lock, now_ns):
        weaker = mode != lock.mode or until_ns < lock.until_ns
        if weaker and not (lock.mode == GOVERNANCE and bypass):
            raise AccessDenied("Access Denied because object protected by object lock.")
    return Lock(mode, until_ns if mode else 0, lock.hold)


def hold(lock: Lock | None, *, on: bool) -> Lock:
    """A version's lock with or without a legal hold."""
    lock = lock or Lock()
    return Lock(lock.mode, lock.until_ns, on)
