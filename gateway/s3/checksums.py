"""Checksums of a body: what the client claims, what is computed and kept, and how it is echoed.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
Without any claim a CRC64NVME is kept, as AWS does (54 GB/s, so it costs nothing).
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping

import msgspec

from gateway.errors import BadDigest, InvalidRequest, NotImplementedHere
from gateway.model import Algorithm, Checksum, Digests
from gateway.s3.body import RequestBody, check_sha256
from gateway.s3.errors import InvalidDigest, MalformedTrailer

DIGEST_BYTES = {
    Algorithm.MD5: 16,
    Algorithm.CRC32: 4,
    Algorithm.CRC32C: 4,
    Algorithm.CRC64NVME: 8,
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
}
HEADERS = {f"x-amz-checksum-{algorithm.value.lower()}": algorithm for algorithm in DIGEST_BYTES}
HEADER_OF = {algorithm: name for name, algorithm in HEADERS.items()}
# Reply headers as bytes: built once.
HEADER_BYTES = {algorithm: name.encode() for name, algorithm in HEADERS.items()}
# XML element of each algorithm.
ELEMENTS = {algorithm: f"Checksum{algorithm.value}" for algorithm in DIGEST_BYTES}
_PREFIX = "x-amz-checksum-"
_OTHERS = frozenset(
    f"{_PREFIX}{name}" for name in ("algorithm", "mode", "type", "sha512", "xxhash64", "xxhash3",
                                    "xxhash128")
)  # fmt: skip
_ABSENT = frozenset(f"{_PREFIX}{name}" for name in ("sha512", "xxhash64", "xxhash3", "xxhash128"))
_FULL_ONLY = (Algorithm.CRC64NVME,)
_COMPOSITE_ONLY = (Algorithm.SHA1, Algorithm.SHA256, Algorithm.MD5)


def parse_algorithm(name: str) -> Algorithm:
    """An algorithm by S3's name. Raises InvalidRequest."""
    try:
        return Algorithm(name.upper())
    except ValueError:
        raise InvalidRequest(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid "
            "types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256, MD5]"
        ) from None


def parse_digest(algorithm: Algorithm, text: str) -> bytes:
    """Base64 of a digest. Raises BadDigest: what is none is not the body's either."""
    try:
        digest = b64decode(text.encode("latin-1", "replace"), validate=True)
    except (Base64Error, ValueError):
        digest = b""
    if len(digest) != DIGEST_BYTES[algorithm]:
        raise BadDigest(f"Value for {HEADER_OF[algorithm]} header is invalid.")
    return digest


def parse_content_md5(text: str) -> bytes:
    """Content-MD5. Raises InvalidDigest."""
    try:
        digest = b64decode(text.encode("latin-1", "replace"), validate=True)
    except (Base64Error, ValueError):
        raise InvalidDigest from None
    if len(digest) != 16:
        raise InvalidDigest
    return digest


def encode(checksum: Checksum) -> str:
    """As S3 writes it: base64, and `-PARTS` behind a composite one."""
    text = b64encode(checksum.digest).decode()
    return f"{text}-{checksum.composite_parts}" if checksum.composite_parts else text


def type_of(checksum: Checksum) -> str:
    """The checksum's type by S3's name."""
    return "COMPOSITE" if checksum.composite_parts else "FULL_OBJECT"


def claimed_header(headers: Mapping[str, str]) -> tuple[Algorithm, str] | None:
    """The one x-amz-checksum-ALGORITHM header, value undecoded.

    Raises InvalidRequest (several), NotImplementedHere (an algorithm that is not served).
    """
    found = None
    if _PREFIX not in " ".join(headers):  # one look instead of one at each name
        return found
    for name, value in headers.items():
        if not name.startswith(_PREFIX):
            continue
        if name in _ABSENT:
            raise NotImplementedHere(Header=name)
        if name in _OTHERS:
            continue
        algorithm = HEADERS.get(name)
        if algorithm is None or found is not None:
            raise InvalidRequest(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not "
                "allowed."
            )
        found = algorithm, value
    return found


class Integrity(msgspec.Struct, frozen=True):
    """What one upload claims about its bytes; `verify` judges what they really hash to."""

    body: RequestBody
    algorithms: frozenset[Algorithm]
    keep: Algorithm
    content_md5: bytes | None
    digest: bytes | None  # of `keep`, claimed by header
    trailer: str  # name of the trailer that will claim it, or ""
    explicit: bool  # the client chose `keep`

    def claimed(self, headers: Mapping[str, str]) -> bool:
        """Whether the client says anything that the whole body is judged by."""
        named = "x-amz-sdk-checksum-algorithm" in headers
        return self.explicit or named or self.content_md5 is not None

    def verify(self, digests: Digests) -> None:
        """Raises BadDigest, ContentSHA256Mismatch, MalformedTrailer."""
        values = digests.values
        if self.body.sha256 is not None:
            check_sha256(self.body.sha256, values[Algorithm.SHA256])
        if self.content_md5 is not None and not hmac.compare_digest(
            self.content_md5, values[Algorithm.MD5]
        ):
            raise BadDigest("The Content-MD5 you specified did not match what we received.")
        claimed = self.digest
        if self.trailer:
            text = self.body.trailers.get(self.trailer)
            if text is None:
                raise MalformedTrailer
            claimed = parse_digest(self.keep, text)
        if claimed is not None and not hmac.compare_digest(claimed, values[self.keep]):
            raise BadDigest(
                f"The {self.keep.value} you specified did not match the calculated checksum."
            )


def plan(
    headers: Mapping[str, str], body: RequestBody, default: Algorithm = Algorithm.CRC64NVME
) -> Integrity:
    """Read every claim about the body. Raises InvalidRequest, InvalidDigest, NotImplementedHere."""
    claim = claimed_header(headers)
    trailer = _checksum_trailer(headers)
    if claim is not None and trailer:
        raise InvalidRequest("Expecting a single x-amz-checksum- header or trailer.")
    digest = None
    if claim is not None:
        keep = claim[0]
        digest = parse_digest(*claim)
    elif trailer:
        keep = HEADERS[trailer]
    elif (name := headers.get("x-amz-sdk-checksum-algorithm")) is not None:
        keep = parse_algorithm(name)
    else:
        keep = default
    algorithms = {keep}
    content_md5 = headers.get("content-md5")
    expected_md5 = None
    if content_md5 is not None:
        expected_md5 = parse_content_md5(content_md5)
        algorithms.add(Algorithm.MD5)
    if body.sha256 is not None:
        algorithms.add(Algorithm.SHA256)
    explicit = claim is not None or bool(trailer)
    return Integrity(body, frozenset(algorithms), keep, expected_md5, digest, trailer, explicit)


def _checksum_trailer(headers: Mapping[str, str]) -> str:
    announced = headers.get("x-amz-trailer")
    if announced is None:
        return ""
    name = announced.strip().lower()
    if name in _ABSENT:
        raise NotImplementedHere(Header=name)
    if name not in HEADERS:
        raise InvalidRequest("The value specified in the x-amz-trailer header is not supported")
    return name


def upload_checksum(headers: Mapping[str, str]) -> tuple[Algorithm, bool]:
    """(algorithm, composite) of a new multipart upload. Raises InvalidRequest."""
    name, kind = headers.get("x-amz-checksum-algorithm"), headers.get("x-amz-checksum-type")
    if kind not in (None, "COMPOSITE", "FULL_OBJECT"):
        raise InvalidRequest("Value for x-amz-checksum-type header is invalid.")
    if name is None:
        if kind is not None:
            raise InvalidRequest(
                "The x-amz-checksum-type header can only be used with the "
                "x-amz-checksum-algorithm header."
            )
        return Algorithm.CRC64NVME, False
    algorithm = parse_algorithm(name)
    composite = kind == "COMPOSITE" or (kind is None and algorithm not in _FULL_ONLY)
    if (composite and algorithm in _FULL_ONLY) or (not composite and algorithm in _COMPOSITE_ONLY):
        raise InvalidRequest(
            f"The {kind} checksum type cannot be used with the {algorithm.value.lower()} "
            "checksum algorithm."
        )
    return algorithm, composite


def parse_whole_object(headers: Mapping[str, str], *, composite: bool) -> Checksum | None:
    """The claim of CompleteMultipartUpload about the finished object. Raises InvalidRequest."""
    claim = claimed_header(headers)
    if claim is None:
        return None
    algorithm, text = claim
    count = 0
    if composite:
        text, mark, parts = text.partition("-")
        if mark:
            if not (parts.isascii() and parts.isdigit() and len(parts) <= 5 and int(parts)):
                raise InvalidRequest(f"Value for {HEADER_OF[algorithm]} header is invalid.")
            count = int(parts)
    return Checksum(algorithm, parse_digest(algorithm, text), count)
