"""IPNS records: read, verify, make. Pure. https://specs.ipfs.tech/ipns/ipns-record/

A record is a protobuf whose field `data` is a DAG-CBOR map, signed whole (signature V2). The older
fields beside it (V1) repeat that map for old readers; they count for nothing, but where they are
they must agree (IPIP-428).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import libipld

from chain import dagcbor
from gateway.ipfs.codecs.protobuf import bytes_field, fields, uint_field
from gateway.ipfs.errors import BlockError
from gateway.ipfs.ipns import keys
from gateway.ipfs.ipns.keys import InvalidKey, PrivateKey
from gateway.ipfs.ipns.name import IpnsName

RECORD_BYTES_MAX = 10 << 10
_SIGNED = b"ipns-signature:"
_EOL = 0  # ValidityType: until the time in Validity
_SECOND = 10**9
_TIME = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Field numbers; the names are those of the specification.
_VALUE, _SIGNATURE_V1, _VALIDITY_TYPE, _VALIDITY, _SEQUENCE, _TTL = 1, 2, 3, 4, 5, 6
_PUBLIC_KEY, _SIGNATURE_V2, _DATA = 7, 8, 9
_TYPES = {"Value": bytes, "Validity": bytes, "ValidityType": int, "Sequence": int, "TTL": int}
_NUMBERS = {_VALIDITY_TYPE, _SEQUENCE, _TTL}
_KNOWN = range(_VALUE, _DATA + 1)


class InvalidRecord(ValueError):
    """Not a record, or not one that this name's key signed for this time."""


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """A record that its name's key signed."""

    raw: bytes
    value: str  # a content path: /ipfs/… or /ipns/…
    sequence: int
    eol_ns: int  # end of life, nanoseconds since 1970
    ttl_ns: int  # for how long a cache may keep it

    def newer_than(self, other: "IpnsRecord") -> bool:
        """Which of two records counts: sequence, then the longer life, then the bytes."""
        mine = (self.sequence, self.eol_ns, self.raw)
        return mine > (other.sequence, other.eol_ns, other.raw)

    def cache_seconds(self, now_ns: int) -> int:
        """For how long an answer from it may be kept: its TTL, and never beyond its life."""
        return max(0, min(self.ttl_ns, self.eol_ns - now_ns)) // _SECOND


def parse(raw: bytes, name: IpnsName, now_ns: int) -> IpnsRecord:
    """The record, if it is the name's and its life is not over. Raises InvalidRecord."""
    record = verified(raw, name)
    if record.eol_ns <= now_ns:
        raise InvalidRecord("the IPNS record has expired")
    return record


@lru_cache(maxsize=1024)
def verified(raw: bytes, name: IpnsName) -> IpnsRecord:
    """The record, if it is the name's, whether it lives or not. Raises InvalidRecord."""
    if len(raw) > RECORD_BYTES_MAX:
        raise InvalidRecord(f"an IPNS record has at most {RECORD_BYTES_MAX} bytes")
    found = _fields(raw)
    data, signature = found.get(_DATA, b""), found.get(_SIGNATURE_V2, b"")
    if not data or not signature:
        raise InvalidRecord("the IPNS record has no V2 signature")
    try:
        if not keys.verify(_key(found.get(_PUBLIC_KEY, b""), name), _SIGNED + data, signature):
            raise InvalidRecord("the IPNS record's V2 signature is wrong")
    except InvalidKey as error:
        raise InvalidRecord(f"the IPNS record's key: {error}") from None
    signed = _signed(data)
    if found.get(_SIGNATURE_V1) or found.get(_VALUE):
        _check_agreement(found, signed)
    if signed["ValidityType"] != _EOL:
        raise InvalidRecord("the IPNS record has an unknown validity type")
    eol_ns = _time_ns(signed["Validity"])
    return IpnsRecord(raw, _path(signed["Value"]), signed["Sequence"], eol_ns, signed["TTL"])


def make(
    key: PrivateKey, value: str, sequence: int, eol_ns: int, ttl_ns: int, *, v1: bool = True
) -> IpnsRecord:
    """A signed record. `v1`: with the older fields and signature too, for old readers."""
    assert sequence >= 0
    assert ttl_ns >= 0
    path, validity = value.encode(), _time_text(eol_ns)
    data = dagcbor.encode(
        {
            "Value": path,
            "Validity": validity,
            "ValidityType": _EOL,
            "Sequence": sequence,
            "TTL": ttl_ns,
        }
    )
    out = []
    if v1:
        out = [
            bytes_field(_VALUE, path),
            bytes_field(_SIGNATURE_V1, key.sign(path + validity + b"EOL")),
            uint_field(_VALIDITY_TYPE, _EOL),
            bytes_field(_VALIDITY, validity),
            uint_field(_SEQUENCE, sequence),
            uint_field(_TTL, ttl_ns),
        ]
    if keys.name_of(key).inlined is None:
        out.append(bytes_field(_PUBLIC_KEY, key.public))
    out += [bytes_field(_SIGNATURE_V2, key.sign(_SIGNED + data)), bytes_field(_DATA, data)]
    return IpnsRecord(b"".join(out), value, sequence, eol_ns, ttl_ns)


def _fields(raw: bytes) -> dict[int, Any]:
    found: dict[int, Any] = {}
    try:
        for number, value in fields(raw):
            if number not in _KNOWN:
                continue
            if isinstance(value, int) != (number in _NUMBERS):
                raise BlockError("protobuf: a field of another type")
            found[number] = value
    except BlockError as error:
        raise InvalidRecord(f"not an IPNS record: {error}") from None
    return found


def _key(embedded: bytes, name: IpnsName) -> bytes:
    """The serialised public key. Raises InvalidRecord."""
    if embedded:
        if IpnsName.of_key(embedded) != name:
            raise InvalidRecord("the IPNS record's key is not the name's")
        return embedded
    inlined = name.inlined
    if inlined is None:
        raise InvalidRecord("the IPNS record has no public key, and the name holds none")
    return inlined


def _signed(data: bytes) -> dict[str, Any]:
    """The map of `data`, its five fields of the right types. Raises InvalidRecord."""
    try:
        signed = libipld.decode_dag_cbor(data)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise InvalidRecord("the IPNS record's data is no DAG-CBOR") from None
    if not isinstance(signed, dict):
        raise InvalidRecord("the IPNS record's data is no map")
    for name, kind in _TYPES.items():
        if type(signed.get(name)) is not kind:
            raise InvalidRecord(f"the IPNS record's data has no {name}")
    if not (0 <= signed["Sequence"] < 1 << 64 and 0 <= signed["TTL"] < 1 << 64):
        raise InvalidRecord("the IPNS record's sequence or TTL is out of range")
    return signed


def _check_agreement(found: dict[int, Any], signed: dict[str, Any]) -> None:
    older = (
        found.get(_VALUE, b""),
        found.get(_VALIDITY, b""),
        found.get(_VALIDITY_TYPE, 0),
        found.get(_SEQUENCE, 0),
        found.get(_TTL, 0),
    )
    if older != tuple(signed[name] for name in _TYPES):
        raise InvalidRecord("the IPNS record's V1 fields are not those that V2 signed")


def _path(value: bytes) -> str:
    """A content path. An empty one is that of the empty block. Raises InvalidRecord."""
    if not value:
        return "/ipfs/bafkqaaa"
    try:
        path = value.decode("utf-8")
    except UnicodeDecodeError:
        path = ""
    if not path.startswith(("/ipfs/", "/ipns/")) or "\x00" in path:
        raise InvalidRecord("the IPNS record's value is no content path")
    return path


def _time_ns(text: bytes) -> int:
    """RFC 3339 with up to nanoseconds. Raises InvalidRecord."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        moment = datetime.fromisoformat(match[1].decode() + "+00:00")
    except ValueError:
        raise InvalidRecord("the IPNS record's validity is no time") from None
    offset = timedelta()
    if match[3]:
        offset = timedelta(hours=int(match[4]), minutes=int(match[5]))
        offset = -offset if match[3] == b"-" else offset
    seconds = (moment - _EPOCH - offset) // timedelta(seconds=1)
    return seconds * _SECOND + int((match[2] or b"").ljust(9, b"0"))


def _time_text(ns: int) -> bytes:
    seconds, rest = divmod(ns, _SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()
