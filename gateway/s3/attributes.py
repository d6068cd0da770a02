"""What a client says about an object (metadata, system headers), read and echoed as AWS does."""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from binascii import a2b_qp
from collections.abc import Iterable, Mapping

from gateway.errors import InvalidArgument
from gateway.model import Attributes, Extra, ObjectVersion
from gateway.replication.rules import REPLICA, shown
from gateway.s3.checksums import HEADER_BYTES, encode, type_of
from gateway.s3.errors import MetadataTooLarge
from gateway.s3.tags import read_tags
from gateway.s3.timestamps import http_date

METADATA_MAX = 2048  # names and values, UTF-8
_META = "x-amz-meta-"
# Said of objects; and by whoever replicates to here, who is taken at his word: it is not replicated
# any further.
REPLICATED = "x-amz-replication-status"
# Derived from the object, never stored as metadata.
DERIVED = "cid"
SYSTEM = (
    "cache-control",
    "content-disposition",
    "content-language",
    "expires",
    "x-amz-website-redirect-location",
    "x-amz-storage-class",
)
_SYSTEM = frozenset(SYSTEM)
_SYSTEM_BYTES = {name: name.encode() for name in (*SYSTEM, "content-encoding")}
_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_-]{1,40})\?([bBqQ])\?([^? ]*)\?=")
_CHARSETS = {"utf-8", "us-ascii", "iso-8859-1"}
_VISIBLE = re.compile(r"[!-~](?:[ -~\t]*[!-~])?|")
# A tab is the one control character that a header may hold.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Headers = list[tuple[bytes, bytes]]


# ------------------------------------------------------------------ reading
def decode_words(value: str) -> str:
    """RFC 2047 encoded words to text; what is not one stays as it is."""
    if "=?" not in value:
        return value
    # White space between two encoded words is not part of the text (§6.2).
    return _ENCODED_WORD.sub(_decode_word, re.sub(r"(\?=)[ \t]+(?==\?)", r"\1", value))


def _decode_word(match: re.Match[str]) -> str:
    charset, scheme, text = match.groups()
    if charset.lower() not in _CHARSETS:
        return match.group()
    try:
        if scheme in "bB":
            raw = b64decode(text.encode("latin-1"), validate=True)
        else:
            raw = a2b_qp(text.encode("latin-1"), header=True)
        return raw.decode(charset)
    except (Base64Error, ValueError):
        return match.group()


def decode_metadata(value: str) -> str:
    """A metadata header: raw UTF-8 or RFC 2047 words to text; other bytes count as Latin-1."""
    if value.isascii():
        return decode_words(value)
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def encode_metadata(value: str) -> bytes:
    """Text as a header: itself when printable ASCII, else one RFC 2047 word."""
    if _VISIBLE.fullmatch(value):
        return value.encode()
    return b"=?UTF-8?B?" + b64encode(value.encode("utf-8", "replace")) + b"?="


def read_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """x-amz-meta-* without the prefix. Raises MetadataTooLarge."""
    if _META not in " ".join(headers):  # one look instead of one at each name
        return {}
    metadata = {
        name[len(_META) :]: decode_metadata(value)
        for name, value in headers.items()
        if name.startswith(_META)
    }
    metadata.pop(DERIVED, None)
    if metadata:
        size = sum(
            len(name) + len(value.encode("utf-8", "replace")) for name, value in metadata.items()
        )
        if size > METADATA_MAX:
            raise MetadataTooLarge(Size=str(size), MaxSizeAllowed=str(METADATA_MAX))
    return metadata


def read_attributes(headers: Mapping[str, str]) -> Attributes:
    """Content type, system headers and metadata of an upload.

    Raises MetadataTooLarge, InvalidArgument (control characters).
    """
    system: dict[str, str] = {}
    if not _SYSTEM.isdisjoint(headers):
        system = {name: headers[name] for name in SYSTEM if headers.get(name)}
    encoding = headers.get("content-encoding")
    if encoding:
        # `aws-chunked` describes this transfer, not the object.
        kept = [c.strip() for c in encoding.split(",") if c.strip().lower() != "aws-chunked"]
        if any(kept):
            system["content-encoding"] = ", ".join(kept)
    if system.get("x-amz-storage-class") == "STANDARD":
        del system["x-amz-storage-class"]
    content_type = headers.get("content-type") or "binary/octet-stream"
    if _CONTROL.search(content_type) or any(_CONTROL.search(v) for v in system.values()):
        raise InvalidArgument("Header values cannot hold control characters.")
    extra = Extra(replication=REPLICA) if headers.get(REPLICATED) == REPLICA else None
    return Attributes(content_type, system, read_metadata(headers), read_tags(headers), extra)


# ------------------------------------------------------------------ echoing
def header_value(text: str) -> bytes:
    """Stored or requested text as header bytes. Raises InvalidArgument for control characters."""
    if _CONTROL.search(text):
        raise InvalidArgument("Header values cannot hold control characters.")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def version_headers(version: ObjectVersion) -> Headers:
    """The id of a version that was read; nothing in a bucket that never had versioning."""
    if not version.bucket.versioning:
        return []
    return [(b"x-amz-version-id", version.version_id.encode())]


def new_version_headers(version: ObjectVersion) -> Headers:
    """The CID, and the id of a version that was written: AWS does not name one called null."""
    headers = [] if version.version_id == "null" else version_headers(version)
    return headers if version.cid is None else headers + cid_headers(version.cid)


def cid_headers(cid: str) -> Headers:
    """The object's CID on IPFS, as metadata (so that every client shows it) and by itself."""
    return [(b"x-amz-meta-cid", cid.encode()), (b"x-ipfs-cid", cid.encode())]


def object_headers(version: ObjectVersion, *, checksum: bool) -> Headers:
    """The headers that describe a version, without Content-Length."""
    attributes = version.attributes
    headers = [
        (b"last-modified", http_date(version.modified_ns // 1_000_000_000)),
        (b"etag", f'"{version.etag}"'.encode()),
        (b"accept-ranges", b"bytes"),
        (b"content-type", attributes.content_type.encode("latin-1", "replace")),
    ]
    headers += version_headers(version)
    if attributes.tags:
        headers.append((b"x-amz-tagging-count", b"%d" % len(attributes.tags)))
    for name, value in attributes.headers.items():
        if name in _SYSTEM_BYTES:
            headers.append((_SYSTEM_BYTES[name], value.encode("latin-1", "replace")))
    for name, value in attributes.metadata.items():
        headers.append((b"x-amz-meta-" + name.encode("latin-1"), encode_metadata(value)))
    if attributes.extra is not None and attributes.extra.replication:
        headers.append((REPLICATED.encode(), shown(attributes.extra.replication).encode()))
    if version.cid is not None:
        headers += cid_headers(version.cid)
    if checksum and version.checksum is not None:
        kept = version.checksum
        headers.append((HEADER_BYTES[kept.algorithm], encode(kept).encode()))
        headers.append((b"x-amz-checksum-type", type_of(kept).encode()))
    return headers


def override(headers: Headers, overrides: Iterable[tuple[str, str]]) -> Headers:
    """Put response-* values in place. Raises InvalidArgument."""
    chosen = {name.encode(): header_value(value) for name, value in overrides}
    kept = [(name, value) for name, value in headers if name not in chosen]
    return kept + list(chosen.items())
