"""How a version is sent: in one piece, or as the parts of a multipart upload. Pure.

Memory is bounded by the part: a small object, and a part, is in memory while it is sent.
"""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from gateway.model import KMS_ALGORITHMS, Algorithm, Checksum, ObjectVersion
from gateway.s3.attributes import encode_metadata
from gateway.s3.timestamps import iso

MIB = 1 << 20
WHOLE_MAX = 16 * MIB
PART, PART_MAX = 16 * MIB, 64 * MIB
PARTS_MAX = 10_000
OBJECT_MAX = PARTS_MAX * PART_MAX
_MD5 = re.compile("[0-9a-f]{32}")
# These can be of the whole of a multipart object.
_COMBINED = frozenset({Algorithm.CRC32, Algorithm.CRC32C, Algorithm.CRC64NVME})


class Part(msgspec.Struct, frozen=True):
    """Bytes [start, end) of the version, and what the source says they hash to."""

    number: int
    start: int
    end: int
    digest: bytes | None = None


class Plan(msgspec.Struct, frozen=True):
    """What to ask the endpoint for. Checksum parameters are boto3's."""

    headers: Mapping[str, str]
    parts: tuple[Part, ...] = ()  # none: one PutObject
    algorithm: Algorithm | None = None
    composite: bool = False
    whole: bytes | None = None  # the whole object's checksum, for it to be compared with


def plan(version: ObjectVersion, storage_class: str = "", kms_key: str = "") -> Plan:
    """The plan; the parts are those of the source where it was made of parts."""
    headers = _headers(version, storage_class) | _encryption(version, kms_key)
    checksum = version.checksum
    if checksum is not None and checksum.algorithm is Algorithm.MD5:
        checksum = None  # boto3 knows it as Content-MD5 alone
    if version.size <= WHOLE_MAX and not version.parts:
        algorithm = checksum.algorithm if checksum else None
        if checksum is None and _MD5.fullmatch(version.etag):
            digest = b64encode(bytes.fromhex(version.etag)).decode()
            return Plan(headers | {"content-md5": digest})
        return Plan(headers, algorithm=algorithm, whole=checksum.digest if checksum else None)
    kept = bool(version.parts) and all(part.size <= PART_MAX for part in version.parts)
    parts = _own_parts(version) if kept else _even_parts(version.size)
    if checksum is None:
        return Plan(headers, parts)
    return _with_checksum(headers, parts, checksum, kept=kept)


def _with_checksum(
    headers: Mapping[str, str], parts: tuple[Part, ...], checksum: Checksum, *, kept: bool
) -> Plan:
    algorithm, whole = checksum.algorithm, None
    composite = bool(checksum.composite_parts) or algorithm not in _COMBINED
    # Of other parts, or of another type, it would be another checksum.
    if composite == bool(checksum.composite_parts) and (kept or not composite):
        whole = checksum.digest
    return Plan(headers, parts, algorithm, composite, whole)


def _own_parts(version: ObjectVersion) -> tuple[Part, ...]:
    parts: list[Part] = []
    start = 0
    for part in version.parts:
        digest = part.checksum.digest if part.checksum else None
        parts.append(Part(len(parts) + 1, start, start + part.size, digest))
        start += part.size
    return tuple(parts)


def _even_parts(size: int) -> tuple[Part, ...]:
    step = max(PART, -(-size // PARTS_MAX))
    return tuple(
        Part(number, start, min(size, start + step))
        for number, start in enumerate(range(0, size, step), 1)
    )


def _headers(version: ObjectVersion, storage_class: str) -> dict[str, str]:
    attributes = version.attributes
    headers = {"content-type": attributes.content_type} | dict(attributes.headers)
    if storage_class:
        headers["x-amz-storage-class"] = storage_class
    for name, value in attributes.metadata.items():
        headers[f"x-amz-meta-{name}"] = encode_metadata(value).decode("latin-1")
    lock = attributes.extra.lock if attributes.extra else None
    if lock is not None and lock.mode:
        headers["x-amz-object-lock-mode"] = lock.mode
        headers["x-amz-object-lock-retain-until-date"] = iso(lock.until_ns)
    if lock is not None and lock.hold:
        headers["x-amz-object-lock-legal-hold"] = "ON"
    if attributes.tags:
        headers["x-amz-tagging"] = urlencode(dict(attributes.tags))
    return headers


def _encryption(version: ObjectVersion, kms_key: str) -> dict[str, str]:
    """What was promised here is asked for there."""
    extra = version.attributes.extra
    if extra is None or extra.encryption is None:
        return {}
    algorithm = extra.encryption.algorithm
    headers = {"x-amz-server-side-encryption": algorithm}
    if algorithm in KMS_ALGORITHMS and kms_key:
        headers["x-amz-server-side-encryption-aws-kms-key-id"] = kms_key
    return headers


def checksum_value(digest: bytes | None, parameter: str) -> dict[str, Any]:
    """A checksum as a parameter of boto3's, or nothing."""
    return {} if digest is None else {parameter: b64encode(digest).decode()}
