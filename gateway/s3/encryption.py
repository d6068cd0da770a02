"""Server-side encryption as clients ask for it: their headers, what takes effect, what is echoed.

Everything is sealed whatever is asked (docs/specs/sealing.md); SSE-C and SSE-KMS add a second key.
Codes and messages are what AWS answers; sources: the API pages of PutObject, CopyObject, UploadPart
and GetObject, and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/specifying-s3-c-encryption.html
"""

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hmac import compare_digest
from typing import NamedTuple

from msgspec.structs import replace

from gateway.errors import (
    AccessDenied,
    CustomerKeyNotNeeded,
    InvalidArgument,
    InvalidRequest,
)
from gateway.kms import key_arn
from gateway.model import (
    KMS_ALGORITHMS,
    SSE_C,
    SSE_S3,
    Algorithm,
    Attributes,
    Bucket,
    Encryption,
    Extra,
    ObjectVersion,
    Upload,
)
from gateway.protection import CustomerKey, key_md5
from gateway.s3.attributes import Headers
from gateway.s3.bucket_encryption import SETTING, BucketEncryption, decode_kept
from gateway.s3.errors import InvalidEncryptionAlgorithm
from gateway.s3.exchange import Exchange
from gateway.seal import KEY_BYTES

SSE = "x-amz-server-side-encryption"
KEY_ID, CONTEXT, BUCKET_KEY = f"{SSE}-aws-kms-key-id", f"{SSE}-context", f"{SSE}-bucket-key-enabled"
_CUSTOMER = f"{SSE}-customer-"
_SOURCE = "x-amz-copy-source-server-side-encryption-customer-"
_PARTS_OF_KEY = ("algorithm", "key", "key-md5")
_ASKED = frozenset({SSE, KEY_ID, CONTEXT, BUCKET_KEY})
_CUSTOMER_HEADERS = frozenset(_CUSTOMER + part for part in _PARTS_OF_KEY)
_SOURCE_HEADERS = frozenset(_SOURCE + part for part in _PARTS_OF_KEY)
HEADERS = _ASKED | _CUSTOMER_HEADERS
CONTEXT_MAX = 8 << 10
_CLIENTS = "Requests specifying Server Side Encryption with Customer provided keys must "
_KMS_FIRST = f"Server Side Encryption with AWS KMS managed key requires HTTP header {SSE} : aws:kms"


class Protection(NamedTuple):
    """What takes effect for one write."""

    encryption: Encryption | None = None
    customer: CustomerKey | None = None

    def of(self, attributes: Attributes) -> Attributes:
        """The attributes with this encryption."""
        if self.encryption is None and attributes.extra is None:
            return attributes
        return replace(
            attributes, extra=replace(attributes.extra or Extra(), encryption=self.encryption)
        )


NOTHING = Protection()


def _wrong(message: str, value: str = "null", name: str = SSE) -> InvalidArgument:
    return InvalidArgument(message, ArgumentName=name, ArgumentValue=value)


# ------------------------------------------------------------------ what a request says
def customer_key(headers: Mapping[str, str], prefix: str = _CUSTOMER) -> CustomerKey | None:
    """The client's key; None without one. Raises InvalidArgument, InvalidEncryptionAlgorithm."""
    algorithm, key, md5 = (headers.get(prefix + part) for part in _PARTS_OF_KEY)
    if algorithm is None and key is None and md5 is None:
        return None
    if algorithm is None:
        raise _wrong(f"{_CLIENTS}provide a valid encryption algorithm.")
    if algorithm != SSE_S3:
        raise InvalidEncryptionAlgorithm(
            "The Encryption request you specified is not valid. Supported value: AES256.",
            ArgumentName=SSE,
            ArgumentValue=algorithm,
        )
    if key is None:
        raise _wrong(f"{_CLIENTS}provide an appropriate secret key.")
    if md5 is None:
        raise _wrong(f"{_CLIENTS}provide the client calculated MD5 of the secret key.")
    try:
        secret = b64decode(key, validate=True)
    except (Base64Error, ValueError):
        raise _wrong("The secret key was invalid for the specified algorithm.") from None
    if not compare_digest(key_md5(secret).encode(), md5.encode()):
        raise _wrong("The calculated MD5 hash of the key did not match the hash that was provided.")
    if len(secret) != KEY_BYTES:
        raise _wrong("The secret key was invalid for the specified algorithm.")
    return CustomerKey(secret)


def asked_encryption(headers: Mapping[str, str]) -> Encryption | None:
    """What a write asks for by name (SSE-S3, SSE-KMS); a KMS key is not looked up.

    Raises InvalidArgument.
    """
    method = headers.get(SSE)
    if method is None:
        if KEY_ID in headers or CONTEXT in headers:
            raise _wrong(_KMS_FIRST)
        return None
    if not _CUSTOMER_HEADERS.isdisjoint(headers):
        raise _wrong(
            "Server Side Encryption with Customer provided key is incompatible with the "
            "encryption method specified",
            method,
        )
    if method == SSE_S3:
        if KEY_ID in headers or CONTEXT in headers:
            raise _wrong(_KMS_FIRST, method)
        return Encryption(SSE_S3)
    if method not in KMS_ALGORITHMS:
        raise _wrong("The encryption method specified is not supported", method)
    return Encryption(method, headers.get(KEY_ID, ""), context=_context(headers))


def _context(headers: Mapping[str, str]) -> str:
    text = headers.get(CONTEXT, "")
    if not text:
        return ""
    try:
        value = json.loads(b64decode(text, validate=True)) if len(text) <= CONTEXT_MAX else None
    except (Base64Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise _wrong(
            f"The header '{CONTEXT}' shall be Base64-encoded UTF-8 string holding JSON which "
            "represents a string-string map",
            name=CONTEXT,
        )
    return text


def _bucket_key(headers: Mapping[str, str]) -> bool | None:
    text = headers.get(BUCKET_KEY)
    if text is None:
        return None
    if text.lower() not in ("true", "false"):
        raise InvalidArgument(ArgumentName=BUCKET_KEY, ArgumentValue=text)
    return text.lower() == "true"


# ------------------------------------------------------------------ writes
def default_of(exchange: Exchange) -> BucketEncryption | None:
    """The bucket's default encryption; None without one."""
    if SETTING not in exchange.bucket.settings:
        return None
    stored = exchange.objects.setting(exchange.bucket, SETTING)
    return None if stored is None else decode_kept(stored)


async def write_protection(exchange: Exchange) -> Protection:
    """What takes effect for an object or upload: what is asked for, else the bucket's default.

    Raises InvalidArgument, InvalidEncryptionAlgorithm, AccessDenied (SSE-C is blocked here),
    KmsKeyNotFound, KmsKeyDisabled.
    """
    headers, default = exchange.request.headers, default_of(exchange)
    if default is None and HEADERS.isdisjoint(headers):
        return NOTHING
    found = asked_encryption(headers)
    customer = customer_key(headers)
    bucket_key = _bucket_key(headers)
    if customer is not None:
        _check_channel(exchange)
        _check_blocked(default)
        return Protection(Encryption(SSE_C), customer)
    if found is None and default is not None and default.algorithm:
        found = Encryption(default.algorithm, default.key)
    if found is None or found.algorithm == SSE_S3:
        return Protection(found)
    _check_channel(exchange)
    _check_signed(exchange)
    if bucket_key is None and default is not None:
        bucket_key = default.bucket_key
    return Protection(
        replace(
            found,
            key=await exchange.objects.kms.usable(exchange.bucket, found.key),
            # DSSE has no bucket keys.
            bucket_key=bool(bucket_key) and found.algorithm == "aws:kms",
        )
    )


def changes_encryption(exchange: Exchange) -> bool:
    """Whether a copy onto itself is one that S3 takes for a change."""
    settings, headers = exchange.bucket.settings, exchange.request.headers
    return SETTING in settings or not HEADERS.isdisjoint(headers)


def _check_channel(exchange: Exchange) -> None:
    if exchange.config.sse_requires_tls and not exchange.request.secure:
        raise _wrong(
            "Requests specifying Server Side Encryption with Customer provided keys or AWS KMS "
            "managed keys must be made over a secure connection."
        )


def _check_signed(exchange: Exchange) -> None:
    if exchange.caller.account is None:
        raise _wrong(
            "Requests specifying Server Side Encryption with AWS KMS managed keys require AWS "
            "Signature Version 4.",
            name="Authorization",
        )


def _check_blocked(default: BucketEncryption | None) -> None:
    if default is not None and SSE_C in default.blocked:
        raise AccessDenied(
            "This bucket has blocked upload requests that specify Server Side Encryption with "
            "Customer provided keys (SSE-C). Please specify a different server-side encryption type"
        )


# ------------------------------------------------------------------ parts
def part_key(exchange: Exchange, upload: Upload) -> CustomerKey | None:
    """The client's key of a part: the one that its upload began with.

    Other encryption headers of a part mean nothing: it takes its upload's. Raises InvalidRequest,
    InvalidArgument, AccessDenied.
    """
    encryption = upload.attributes.encryption
    customer = customer_key(exchange.request.headers)
    if (customer is None) == (encryption is not None and encryption.customer):
        raise InvalidRequest(
            "The multipart upload initiate requested encryption. Subsequent part requests must "
            "include the appropriate encryption parameters."
        )
    if customer is not None:
        _check_channel(exchange)
        _check_blocked(default_of(exchange))
        exchange.objects.check_upload_key(upload, customer)
    return customer


def completing_key(exchange: Exchange, upload: Upload) -> CustomerKey | None:
    """The same for CompleteMultipartUpload, which needs it for an upload that chose a checksum."""
    encryption = upload.attributes.encryption
    if encryption is None or not encryption.customer:
        return None
    _check_blocked(default_of(exchange))
    customer = customer_key(exchange.request.headers)
    if customer is not None:
        exchange.objects.check_upload_key(upload, customer)
    elif upload.algorithm not in (None, Algorithm.CRC64NVME):
        raise _wrong(f"{_CLIENTS}provide a valid encryption algorithm.")
    return customer


# ------------------------------------------------------------------ reads
def opened(exchange: Exchange, version: ObjectVersion) -> tuple[ObjectVersion, CustomerKey | None]:
    """The version with all that may be shown of it, and the client's key if it takes one.

    Raises InvalidArgument (headers that only writes have), CustomerKeyMissing, CustomerKeyWrong,
    CustomerKeyNotNeeded.
    """
    headers = exchange.request.headers
    if version.attributes.extra is None and HEADERS.isdisjoint(headers):
        return version, None
    for name in headers:
        if name in _ASKED:
            raise _wrong(f"{name} header is not supported for this operation.", headers[name], name)
    customer = customer_key(headers)
    return _opened(exchange, version, customer), customer


def source_key(exchange: Exchange, version: ObjectVersion) -> CustomerKey | None:
    """The client's key for the source of a copy. Raises as `opened` does."""
    headers = exchange.request.headers
    if version.attributes.extra is None and _SOURCE_HEADERS.isdisjoint(headers):
        return None
    customer = customer_key(headers, _SOURCE)
    _opened(exchange, version, customer)
    return customer


def _opened(
    exchange: Exchange, version: ObjectVersion, customer: CustomerKey | None
) -> ObjectVersion:
    encryption = version.attributes.encryption
    if encryption is not None and encryption.second:
        _check_channel(exchange)
        if not encryption.customer:
            _check_signed(exchange)
    if customer is not None and (encryption is None or not encryption.customer):
        raise CustomerKeyNotNeeded
    return exchange.objects.opened(version, customer)


# ------------------------------------------------------------------ replies
def encryption_headers(
    bucket: Bucket, encryption: Encryption | None, customer: CustomerKey | None = None
) -> Headers:
    """What a reply says of an object's encryption, beside `context_headers`."""
    if customer is not None:
        return [
            (f"{_CUSTOMER}algorithm".encode(), SSE_S3.encode()),
            (f"{_CUSTOMER}key-md5".encode(), customer.md5.encode()),
        ]
    if encryption is None or encryption.customer:
        return []
    headers = [(SSE.encode(), encryption.algorithm.encode())]
    if encryption.key:
        headers.append((KEY_ID.encode(), key_arn(bucket, encryption.key).encode()))
    if encryption.bucket_key:
        headers.append((BUCKET_KEY.encode(), b"true"))
    return headers


def written_headers(bucket: Bucket, protection: Protection) -> Headers:
    """What PUT, COPY and CreateMultipartUpload say: the context, too."""
    if protection is NOTHING:
        return []
    headers = encryption_headers(bucket, protection.encryption, protection.customer)
    if protection.encryption is not None and protection.encryption.context:
        headers.append((CONTEXT.encode(), protection.encryption.context.encode()))
    return headers
