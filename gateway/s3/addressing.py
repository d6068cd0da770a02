"""Which bucket and key a request names: path style, virtual-hosted style, copy sources, queries.

Pure. The path is taken as it came (`raw_path`) and decoded here once, so that `//`, `.`, `..`, `+`,
`%2F` and a trailing slash stay what they are. A `+` is a plus in a path and a space in a query.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from gateway.errors import InvalidArgument, KeyTooLong
from gateway.s3.errors import InvalidURI

KEY_BYTES_MAX = 1024
QUERY_PAIRS_MAX = 256
_SITE = ".s3-website."
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def percent_decode(raw: bytes) -> str:
    """Percent-encoded bytes to text. Raises InvalidURI (broken escape, not UTF-8)."""
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise InvalidURI
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidURI from None


def parse_query(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Decoded (name, value) pairs in order; a name without `=` has the value "".

    Raises InvalidURI (encoding, more than QUERY_PAIRS_MAX pairs).
    """
    if not raw:
        return ()
    parts = raw.split(b"&", QUERY_PAIRS_MAX + 1)
    if len(parts) > QUERY_PAIRS_MAX:
        raise InvalidURI
    pairs = []
    for part in parts:
        if part:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            pairs.append((percent_decode(name), percent_decode(value)))
    return tuple(pairs)


def host_bucket(host: str, domains: Sequence[str]) -> str:
    """The bucket in a virtual-hosted `Host`, or "" (path style)."""
    if not domains or host.startswith("["):  # an IPv6 literal
        return ""
    name = host.partition(":")[0].lower()
    for domain in domains:
        if name.endswith(domain) and name[-len(domain) - 1 : -len(domain)] == ".":
            return name[: -len(domain) - 1]
    return ""


def site_bucket(host: str, domains: Sequence[str]) -> str:
    """The bucket of a website's `Host`, BUCKET.s3-website.DOMAIN, or ""."""
    bucket = host_bucket(host, domains) if _SITE in host else ""
    return bucket.removesuffix(_SITE[:-1]) if bucket.endswith(_SITE[:-1]) else ""


def split_path(raw_path: bytes, virtual_bucket: str = "") -> tuple[str, str]:
    """(bucket, key) of a request path; "" where there is none. Raises InvalidURI, KeyTooLong."""
    path = raw_path[1:] if raw_path.startswith(b"/") else raw_path
    if virtual_bucket:
        bucket, key = virtual_bucket, percent_decode(path)
    else:
        head, _, tail = path.partition(b"/")
        bucket, key = percent_decode(head), percent_decode(tail)
    if len(key) > KEY_BYTES_MAX // 4 and len(key.encode()) > KEY_BYTES_MAX:
        raise KeyTooLong(Size=str(len(key.encode())), MaxSizeAllowed=str(KEY_BYTES_MAX))
    return bucket, key


@dataclass(frozen=True, slots=True)
class CopySource:
    """What x-amz-copy-source names."""

    bucket: str
    key: str
    version_id: str | None = None


def parse_rename_source(value: str, bucket: str) -> str:
    """The key in x-amz-rename-source: percent-encoded, behind the bucket's name or alone.

    Raises InvalidArgument, InvalidURI, KeyTooLong.
    """
    raw = value.encode("latin-1", "replace").removeprefix(b"/")
    _, key = split_path(b"/" + raw.removeprefix(f"{bucket}/".encode()), bucket)
    if not key:
        raise InvalidArgument(
            "A rename must name its source.",
            ArgumentName="x-amz-rename-source",
            ArgumentValue=value,
        )
    return key


def parse_copy_source(value: str) -> CopySource:
    """`/bucket/key` or `bucket/key`, percent-encoded, maybe `?versionId=ID`.

    Raises InvalidArgument, InvalidURI, KeyTooLong. (The header is read as Latin-1: clients that do
    not encode send UTF-8 bytes.)
    """
    raw = value.encode("latin-1", "replace")
    path, mark, version = raw.rpartition(b"?versionId=")
    if not mark:
        path, version = raw, b""
    bucket, key = split_path(path.removeprefix(b"/"))
    if not bucket or not key:
        raise InvalidArgument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ArgumentName="x-amz-copy-source",
            ArgumentValue=value,
        )
    return CopySource(bucket, key, percent_decode(version) if mark else None)
