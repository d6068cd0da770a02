"""The rows of an inventory and its manifest. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from gateway.inventory.setting import Inventory
from gateway.model import ObjectVersion

DAY = 86_400
# What a listing does not know of a version: for these it is read for itself.
_OF_WHOLE = frozenset({
    "StorageClass", "ReplicationStatus", "EncryptionStatus", "ObjectLockRetainUntilDate",
    "ObjectLockMode", "ObjectLockLegalHoldStatus", "BucketKeyStatus",
})  # fmt: skip


class Written(msgspec.Struct, frozen=True):
    """A stored data file."""

    key: str
    size: int
    md5: str


def schema(inventory: Inventory) -> list[str]:
    """The columns."""
    versions = ["VersionId", "IsLatest", "IsDeleteMarker"] if inventory.versions else []
    return ["Bucket", "Key", *versions, *inventory.fields]


def needs_whole(inventory: Inventory) -> bool:
    """Whether rows tell what only the whole version knows."""
    return not _OF_WHOLE.isdisjoint(inventory.fields)


def rows_of(inventory: Inventory, versions: Iterable[ObjectVersion]) -> bytes:
    """Lines of CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows(_row(inventory, version) for version in versions)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _row(inventory: Inventory, version: ObjectVersion) -> list[str]:
    key = quote(version.key.encode("utf-8", "surrogateescape"), safe="/-_.~*")
    row = [version.bucket.name, key]
    if inventory.versions:
        name = "" if version.version_id == "null" else version.version_id
        row += [name, _flag(not version.superseded_ns), _flag(version.deleted)]
    if version.deleted:
        kept = ("LastModifiedDate",)
        return row + [_FIELDS[f](version) if f in kept else "" for f in inventory.fields]
    return row + [_FIELDS[field](version) for field in inventory.fields]


def _flag(value: object) -> str:
    return "true" if value else "false"


def _moment(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 1_000_000 / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _encryption(version: ObjectVersion) -> str:
    extra = version.attributes.extra
    algorithm = extra.encryption.algorithm if extra and extra.encryption else "AES256"
    return {"AES256": "SSE-S3", "aws:kms": "SSE-KMS", "aws:kms:dsse": "DSSE-KMS"}.get(
        algorithm, algorithm
    )


def _lock(version: ObjectVersion, field: str) -> str:
    extra = version.attributes.extra
    lock = extra.lock if extra else None
    if lock is None:
        return ""
    if field == "ObjectLockLegalHoldStatus":
        return "On" if lock.hold else "Off"
    if not lock.mode:
        return ""
    return lock.mode if field == "ObjectLockMode" else _moment(lock.until_ns)


def _bucket_key(version: ObjectVersion) -> str:
    extra = version.attributes.extra
    used = extra is not None and extra.encryption is not None and extra.encryption.bucket_key
    return "ENABLED" if used else "DISABLED"


def _nothing(_: ObjectVersion) -> str:
    return ""


_FIELDS: dict[str, Callable[[ObjectVersion], str]] = {
    "Size": lambda v: str(v.size),
    "LastModifiedDate": lambda v: _moment(v.modified_ns),
    "StorageClass": lambda v: v.attributes.headers.get("x-amz-storage-class", "STANDARD"),
    "ETag": lambda v: v.etag,
    "IsMultipartUploaded": lambda v: _flag("-" in v.etag),
    "ReplicationStatus": lambda v: (
        v.attributes.extra.replication.partition("+")[0] if v.attributes.extra else ""
    ),
    "EncryptionStatus": _encryption,
    "ObjectLockRetainUntilDate": lambda v: _lock(v, "ObjectLockRetainUntilDate"),
    "ObjectLockMode": lambda v: _lock(v, "ObjectLockMode"),
    "ObjectLockLegalHoldStatus": lambda v: _lock(v, "ObjectLockLegalHoldStatus"),
    "BucketKeyStatus": _bucket_key,
    "ChecksumAlgorithm": lambda v: v.checksum.algorithm.value if v.checksum else "",
    "ObjectOwner": lambda v: v.bucket.owner.id,
    "IntelligentTieringAccessTier": _nothing,
    "ObjectAccessControlList": _nothing,
    "LifecycleExpirationDate": _nothing,
}


# ------------------------------------------------------------------ keys and manifest
def period_of(inventory: Inventory, now: float, day_seconds: float) -> float:
    """When the present day or week began: seconds since 1970. Weeks begin on Sunday, as AWS's."""
    step = day_seconds * (7 if inventory.weekly else 1)
    first = 3 * day_seconds if inventory.weekly else 0.0  # 1970-01-04 was a Sunday
    return (now - first) // step * step + first


def place_of(inventory: Inventory, source: str) -> str:
    """The prefix of all that belongs to one configuration."""
    prefix = inventory.prefix if not inventory.prefix or inventory.prefix.endswith("/") else (
        f"{inventory.prefix}/"
    )  # fmt: skip
    return f"{prefix}{source}/{inventory.id}/"


def manifest_key(inventory: Inventory, source: str, period: float) -> str:
    """Where the manifest of a period is."""
    moment = datetime.fromtimestamp(period, UTC)
    return f"{place_of(inventory, source)}{moment:%Y-%m-%dT%H-%MZ}/manifest.json"


def data_key(inventory: Inventory, source: str, bucket_id: bytes, period: float) -> str:
    """Where the rows of a period are: the same when they are made again."""
    name = hashlib.sha256(f"{bucket_id.hex()} {inventory.id} {period}".encode()).hexdigest()
    parts = (name[:8], name[8:12], name[12:16], name[16:20], name[20:32])
    return f"{place_of(inventory, source)}data/{'-'.join(parts)}.csv.gz"


def manifest(inventory: Inventory, source: str, now: float, files: Iterable[Written]) -> bytes:
    """The manifest's JSON."""
    document = {
        "sourceBucket": source,
        "destinationBucket": f"arn:aws:s3:::{inventory.target}",
        "version": "2016-11-30",
        "creationTimestamp": str(int(now * 1000)),
        "fileFormat": "CSV",
        "fileSchema": ", ".join(schema(inventory)),
        "files": [{"key": f.key, "size": f.size, "MD5checksum": f.md5} for f in files],
    }
    return msgspec.json.encode(document)
