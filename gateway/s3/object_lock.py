"""Object lock: a bucket's configuration, retention and legal holds of its versions.

What a lock means is gateway/retention.py; here are its documents and headers.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
"""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from gateway.errors import InvalidArgument, InvalidRequest
from gateway.model import OBJECT_LOCK, Attributes, Bucket, Extra, Lock, ObjectVersion
from gateway.retention import MODES, hold, kept_setting, retain
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import Action
from gateway.s3.attributes import Headers, version_headers
from gateway.s3.errors import (
    MalformedXML,
    NoSuchObjectLockConfiguration,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.lock_documents import BYPASS, HOLD, MODE, UNTIL, retained_until
from gateway.s3.timestamps import iso
from gateway.s3.xml_requests import child_text, parse_document

_DOCUMENT_MAX = 64 * 1024
_SWITCH = {True: "ON", False: "OFF"}


# ------------------------------------------------------------------ new versions
def given_lock(exchange: Exchange, key: str) -> Lock | None:
    """The lock that an upload's headers ask for, when the caller may.

    Raises InvalidRequest (no object lock here), InvalidArgument, AccessDenied.
    """
    headers, bucket = exchange.request.headers, exchange.bucket
    mode, until, on = headers.get(MODE), headers.get(UNTIL), headers.get(HOLD)
    if mode is None and until is None and on is None:
        return None
    _check_lockable(bucket)
    if (mode is None) is not (until is None):
        raise InvalidArgument(f"{UNTIL} and {MODE} must both be supplied")
    if mode is not None and mode not in MODES:
        raise InvalidArgument("Unknown wormMode directive.", ArgumentName=MODE, ArgumentValue=mode)
    if on not in (None, "ON", "OFF"):
        raise InvalidArgument("Legal Hold must be either of 'ON' or 'OFF'", ArgumentName=HOLD)
    until_ns = 0
    if until is not None:
        until_ns = _future(exchange, retained_until(until))
        _check_permission(exchange, "PutObjectRetention", key)
    if on is not None:
        _check_permission(exchange, "PutObjectLegalHold", key)
    return Lock(mode or "", until_ns, None if on is None else on == "ON")


def with_lock(attributes: Attributes, lock: Lock | None) -> Attributes:
    """The attributes of a version that is locked."""
    if lock is None:
        return attributes
    return replace(attributes, extra=replace(attributes.extra or Extra(), lock=lock))


def check_integrity(exchange: Exchange, lock: Lock | None, *, claimed: bool) -> None:
    """What is kept so long must come with a checksum. Raises InvalidRequest."""
    bucket = exchange.bucket
    if claimed or OBJECT_LOCK not in bucket.settings:
        return
    stored = exchange.objects.setting(bucket, OBJECT_LOCK)
    if (lock is not None and lock.mode) or (stored and kept_setting(stored).mode):
        raise InvalidRequest(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
            "Object Lock parameters"
        )


def lock_headers(exchange: Exchange, version: ObjectVersion) -> Headers:
    """What GET and HEAD say of a version's lock to who may know."""
    lock = version.attributes.extra and version.attributes.extra.lock
    if not lock:
        return []
    headers: Headers = []
    if lock.mode and _may(exchange, "GetObjectRetention", version.key):
        headers.append((MODE.encode(), lock.mode.encode()))
        headers.append((UNTIL.encode(), iso(lock.until_ns).encode()))
    if lock.hold is not None and _may(exchange, "GetObjectLegalHold", version.key):
        headers.append((HOLD.encode(), _SWITCH[lock.hold].encode()))
    return headers


def may_bypass(exchange: Exchange, key: str) -> bool:
    """Whether the request asks to pass governance by. Raises AccessDenied when it may not."""
    if exchange.request.headers.get(BYPASS, "").lower() != "true":
        return False
    _check_permission(exchange, "BypassGovernanceRetention", key)
    return True


def _check_permission(exchange: Exchange, operation: str, key: str) -> None:
    exchange.permission.check(Action.WRITE, exchange.bucket, operation, key)


def _may(exchange: Exchange, operation: str, key: str) -> bool:
    return exchange.permission.decide(Action.CONFIGURE, exchange.bucket, operation, key).allowed


def _check_lockable(bucket: Bucket) -> None:
    if OBJECT_LOCK not in bucket.settings:
        raise InvalidRequest("Bucket is missing Object Lock Configuration")


def _future(exchange: Exchange, until_ns: int) -> int:
    if until_ns <= exchange.now_ns:
        raise InvalidArgument("The retain until date must be in the future!")
    return until_ns


# ------------------------------------------------------------------ retention and legal hold
async def get_retention(exchange: Exchange, operation: ops.GetObjectRetention) -> Reply:
    """Mode and time."""
    lock = _lock_of(exchange, operation.key, operation.version_id)
    if lock is None or not lock.mode:
        raise NoSuchObjectLockConfiguration
    body = f"<Mode>{lock.mode}</Mode><RetainUntilDate>{iso(lock.until_ns)}</RetainUntilDate>"
    return xml_reply(xml.document("Retention", body))


async def put_retention(exchange: Exchange, operation: ops.PutObjectRetention) -> Reply:
    """Replace it, as far as the one that there is allows; an empty one takes it away."""
    judge = _judged_early(exchange, operation, "PutObjectRetention")
    _check_lockable(exchange.bucket)
    tree = parse_document(await exchange.document(_DOCUMENT_MAX), "Retention")
    mode, until = child_text(tree, "Mode"), child_text(tree, "RetainUntilDate")
    if (mode is None) is not (until is None) or (mode is not None and mode not in MODES):
        raise MalformedXML
    judge({MODE: mode, UNTIL: until} if mode is not None and until is not None else {})
    until_ns = _future(exchange, retained_until(until)) if until is not None else 0
    bypass = may_bypass(exchange, operation.key)

    def change(lock: Lock | None) -> Lock:
        return retain(lock, mode or "", until_ns, exchange.now_ns, bypass=bypass)

    return await _amend(exchange, operation.key, operation.version_id, change)


async def get_legal_hold(exchange: Exchange, operation: ops.GetObjectLegalHold) -> Reply:
    """ON or OFF."""
    lock = _lock_of(exchange, operation.key, operation.version_id)
    if lock is None or lock.hold is None:
        raise NoSuchObjectLockConfiguration
    return xml_reply(xml.document("LegalHold", f"<Status>{_SWITCH[lock.hold]}</Status>"))


async def put_legal_hold(exchange: Exchange, operation: ops.PutObjectLegalHold) -> Reply:
    """Set it."""
    judge = _judged_early(exchange, operation, "PutObjectLegalHold")
    _check_lockable(exchange.bucket)
    tree = parse_document(await exchange.document(_DOCUMENT_MAX), "LegalHold")
    status = (child_text(tree, "Status") or "").strip()
    if status not in ("ON", "OFF"):
        raise MalformedXML
    judge({HOLD: status})
    return await _amend(
        exchange, operation.key, operation.version_id, lambda lock: hold(lock, on=status == "ON")
    )


def _judged_early(
    exchange: Exchange, operation: ops.PutObjectRetention | ops.PutObjectLegalHold, name: str
) -> Callable[[Mapping[str, str]], None]:
    """Ask whether it may be; where a policy asks for what the body says, by the function returned.

    That takes the body's lock as the headers of an upload. Raises AccessDenied.
    """
    permission, bucket = exchange.permission, exchange.bucket
    asked = (Action.CONFIGURE, bucket, name, operation.key, operation.version_id)
    if not permission.asks_given_lock(bucket):
        permission.check(*asked)
        return lambda _: None

    def judge(given: Mapping[str, str]) -> None:
        permission.given_lock = given
        permission.check(*asked)

    return judge


def _lock_of(exchange: Exchange, key: str, version_id: str | None) -> Lock | None:
    _check_lockable(exchange.bucket)
    extra = exchange.objects.head(exchange.bucket, key, version_id).attributes.extra
    return None if extra is None else extra.lock


async def _amend(
    exchange: Exchange, key: str, version_id: str | None, change: Callable[[Lock | None], Lock]
) -> Reply:
    def amended(attributes: Attributes) -> Attributes:
        extra = attributes.extra or Extra()
        return replace(attributes, extra=replace(extra, lock=change(extra.lock)))

    version = await exchange.objects.amend(exchange.bucket, key, version_id, amended)
    return Reply(200, version_headers(version))
