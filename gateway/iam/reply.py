"""Replies of the query protocol, as strings built by hand."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from gateway.s3.xml import escape

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# None is left out; a list's elements are <member>; a Map's are <entry><key/><value/></entry>.
Value = str | int | bool | None | Sequence["Value"] | Mapping[str, "Value"]

NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}


class Entries(dict[str, Value]):
    """A map whose keys are data."""


def document(
    service: str, action: str, result: Mapping[str, Value] | None, request_id: str
) -> bytes:
    """A reply of one operation; `result` None: the operation has no result."""
    inner = "" if result is None else f"<{action}Result>{_fields(result)}</{action}Result>"
    return (
        f'<{action}Response xmlns="{NAMESPACES[service]}">{inner}<ResponseMetadata><RequestId>'
        f"{request_id}</RequestId></ResponseMetadata></{action}Response>"
    ).encode()


def error(service: str, code: str, message: str, *, status: int, request_id: str) -> bytes:
    """An error reply."""
    fault = "Sender" if status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{NAMESPACES[service]}"><Error><Type>{fault}</Type><Code>{code}'
        f"</Code><Message>{_text(message)}</Message></Error><RequestId>{request_id}</RequestId>"
        "</ErrorResponse>"
    ).encode()


def encoded(policy: bytes) -> str:
    """A policy as replies show it: percent-encoded (RFC 3986)."""
    return quote(policy.decode(), safe="")


def moment(time_ns: int) -> str:
    """A time as IAM writes it: whole seconds."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(text: str) -> str:
    """Character data: what XML has no place for becomes U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def _fields(values: Mapping[str, Value]) -> str:
    return "".join(
        [f"<{name}>{_value(value)}</{name}>" for name, value in values.items() if value is not None]
    )


def _value(value: Value) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Entries):
        pairs = value.items()
        return "".join(
            f"<entry><key>{_text(key)}</key><value>{_value(one)}</value></entry>"
            for key, one in pairs
        )
    if isinstance(value, Mapping):
        return _fields(value)
    if isinstance(value, Sequence):
        return "".join([f"<member>{_value(one)}</member>" for one in value])
    return str(value)
