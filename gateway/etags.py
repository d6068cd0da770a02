"""Entity tags of streams: the MD5 of what a client stored, or what it cannot take for one. Pure."""

from gateway.ingest import Ingested
from gateway.model import Algorithm, Attributes

_ETAG_ALGORITHMS = {
    "md5": frozenset({Algorithm.MD5}),
    "crc64nvme": frozenset({Algorithm.CRC64NVME}),
}


def etag_of(ingested: Ingested, algorithm: str, *, told: bool) -> str:
    """The entity tag: MD5, or a CRC dressed as a one-part multipart tag (never taken for MD5).

    Where nothing may be told of the bytes (SSE-C), it is made of the stream's key commitment.
    """
    if not told:
        return ingested.commitment[:16].hex()
    if algorithm == "crc64nvme":
        return ingested.digests.values[Algorithm.CRC64NVME].hex().rjust(32, "0") + "-1"
    return ingested.digests.values[Algorithm.MD5].hex()


def etag_algorithms(algorithm: str, *, told: bool) -> frozenset[Algorithm]:
    """What has to be computed for `etag_of`."""
    return _ETAG_ALGORITHMS[algorithm] if told else frozenset()


def tells(attributes: Attributes) -> bool:
    """Whether the ETag may tell of the bytes to who has the catalog but not the client's key."""
    encryption = attributes.encryption
    return encryption is None or not encryption.customer
