"""A bucket's default encryption: its document and how it is kept. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html
"""

from functools import lru_cache

import msgspec

from gateway.errors import InvalidArgument
from gateway.model import KMS_ALGORITHMS, SSE_C, SSE_S3
from gateway.s3 import xml
from gateway.s3.errors import MalformedXML
from gateway.s3.xml_requests import child_text, child_texts, parse_document

SETTING = "encryption"
_CONFIGURATION = "ServerSideEncryptionConfiguration"
_DEFAULT = "ApplyServerSideEncryptionByDefault"
_KEY_MAX = 2048


class BucketEncryption(msgspec.Struct, frozen=True, array_like=True):
    """What objects get that ask for nothing, and what none may ask for. Kept as MessagePack."""

    algorithm: str = ""  # AES256, aws:kms, aws:kms:dsse; "" for a rule that only blocks
    key: str = ""  # KMS: as it was given; "" for the account's default key
    bucket_key: bool = False
    blocked: tuple[str, ...] = ()  # SSE-C, or NONE as it was given


_decode = msgspec.msgpack.Decoder(BucketEncryption).decode


@lru_cache(maxsize=1024)
def decode_kept(stored: bytes) -> BucketEncryption:
    """The stored form, which every write to the bucket reads."""
    return _decode(stored)


def parse_encryption(data: bytes) -> BucketEncryption:
    """The configuration: exactly one rule. Raises MalformedXML, InvalidArgument."""
    rules = parse_document(data, _CONFIGURATION).findall("Rule")
    if len(rules) != 1:
        raise MalformedXML
    default, blocks = rules[0].find(_DEFAULT), rules[0].find("BlockedEncryptionTypes")
    if default is None and blocks is None:
        raise MalformedXML
    algorithm = key = ""
    if default is not None:
        algorithm = (child_text(default, "SSEAlgorithm") or "").strip()
        key = (child_text(default, "KMSMasterKeyID") or "").strip()
        if (algorithm != SSE_S3 and algorithm not in KMS_ALGORITHMS) or len(key) > _KEY_MAX:
            raise MalformedXML
        if key and algorithm == SSE_S3:
            raise InvalidArgument(
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms "
                "or aws:kms:dsse",
                ArgumentName=_DEFAULT,
            )
    enabled = (child_text(rules[0], "BucketKeyEnabled") or "false").strip().lower()
    blocked = () if blocks is None else child_texts(blocks, "EncryptionType")
    if enabled not in ("true", "false") or not set(blocked) <= {"NONE", SSE_C}:
        raise MalformedXML
    return BucketEncryption(algorithm, key, enabled == "true", blocked)


def encryption_document(kept: BucketEncryption) -> bytes:
    """The inverse of `parse_encryption`."""
    key = f"<KMSMasterKeyID>{xml.escape(kept.key)}</KMSMasterKeyID>" if kept.key else ""
    default = ""
    if kept.algorithm:
        default = f"<{_DEFAULT}><SSEAlgorithm>{kept.algorithm}</SSEAlgorithm>{key}</{_DEFAULT}>"
    blocked = "".join(f"<EncryptionType>{one}</EncryptionType>" for one in kept.blocked)
    if blocked:
        blocked = f"<BlockedEncryptionTypes>{blocked}</BlockedEncryptionTypes>"
    return xml.document(
        _CONFIGURATION,
        f"<Rule>{default}<BucketKeyEnabled>{str(kept.bucket_key).lower()}</BucketKeyEnabled>"
        f"{blocked}</Rule>",
    )
