"""What replies say of a bucket's lifecycle: when an object expires, when an upload is given up.

In whole days, also where the job's are shorter.
"""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from gateway.errors import InvalidRequest
from gateway.lifecycle.rules import (
    LIFECYCLE,
    MINIMUM_ALL,
    MINIMUM_VARIES,
    WHOLE_DAYS,
    Due,
    Facts,
    Plan,
    kept_lifecycle,
    plan_of,
)
from gateway.model import Bucket, ObjectVersion, Upload
from gateway.s3.attributes import Headers
from gateway.s3.exchange import Exchange
from gateway.s3.timestamps import http_date

MINIMUM_HEADER = "x-amz-transition-default-minimum-object-size"
_NS = 1_000_000_000
# Of a rule's id all that a quoted string in a header can hold stays as it is.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"%\\')
_DATE_MAX = 253_402_300_799  # the end of the year 9999


def with_minimum(headers: Mapping[str, str], stored: bytes) -> bytes:
    """A configuration with what the request's header says of it. Raises InvalidRequest."""
    said = headers.get(MINIMUM_HEADER, "")
    if said and said not in (MINIMUM_ALL, MINIMUM_VARIES):
        raise InvalidRequest(f"Invalid TransitionDefaultMinimumObjectSize found: {said}")
    return msgspec.msgpack.encode(msgspec.structs.replace(kept_lifecycle(stored), minimum=said))


def minimum_headers(stored: bytes) -> Headers:
    """What replies to GET and PUT of a configuration say: AWS's default where nothing was said."""
    return [(MINIMUM_HEADER.encode(), (kept_lifecycle(stored).minimum or MINIMUM_ALL).encode())]


def expiration_headers(exchange: Exchange, version: ObjectVersion) -> Headers:
    """x-amz-expiration of a latest version that a rule lets expire."""
    plan = _plan(exchange, version.bucket)
    if plan is None:
        return []
    due = plan.expiration(
        Facts(version.key, version.size, version.attributes.tags, version.modified_ns)
    )
    if due is None:
        return []
    text = f'expiry-date="{_date(due).decode()}", rule-id="{quote(due.rule, safe=_PLAIN)}"'
    return [(b"x-amz-expiration", text.encode())]


def abort_headers(exchange: Exchange, upload: Upload) -> Headers:
    """x-amz-abort-date and its rule of an upload that a rule gives up."""
    plan = _plan(exchange, upload.bucket)
    due = None if plan is None else plan.abort(upload.key, upload.started_ns)
    if due is None:
        return []
    rule = quote(due.rule, safe=_PLAIN).encode()
    return [(b"x-amz-abort-date", _date(due)), (b"x-amz-abort-rule-id", rule)]


def _plan(exchange: Exchange, bucket: Bucket) -> Plan | None:
    if LIFECYCLE not in bucket.settings:
        return None
    stored = exchange.objects.setting(bucket, LIFECYCLE)
    return None if stored is None else plan_of(stored, WHOLE_DAYS)


def _date(due: Due) -> bytes:
    return http_date(min(due.when_ns // _NS, _DATE_MAX))
