"""The rows of multipart uploads: their keys, how they are found, what the model sees of them."""

from gateway.catalog.interface import Reader, Space
from gateway.errors import NoSuchUpload
from gateway.model import Algorithm, Bucket, Checksum, PartSummary, Upload
from gateway.records import PartRow, UploadRow, decode, part_key, upload_key
from gateway.transaction import Transaction
from gateway.versions import attributes_of, object_key

PARTS_MAX = 10_000
UPLOAD_ID_BYTES = 16
Part = tuple[int, PartRow]


def upload_id_bytes(text: str) -> bytes:
    """Raises NoSuchUpload for what can be no upload id."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise NoSuchUpload from None
    if len(raw) != UPLOAD_ID_BYTES or raw.hex() != text:
        raise NoSuchUpload
    return raw


def uploads_after(key: str, upload_id: str = "") -> bytes:
    """The `start` of list_uploads behind a key's uploads, or behind one of them."""
    raw = object_key(key)
    if not upload_id:
        return upload_key(b"", raw, b"\xff" * (UPLOAD_ID_BYTES + 1))
    return upload_key(b"", raw, upload_id_bytes(upload_id)) + b"\x00"


def place_of(upload: Upload) -> bytes:
    """The upload's key in UPLOADS."""
    raw_id = upload_id_bytes(upload.upload_id)
    return upload_key(upload.bucket.id, object_key(upload.key), raw_id)


def upload_row(reader: Reader, upload: Upload) -> tuple[bytes, UploadRow]:
    """The row as stored and as read. Raises NoSuchUpload when it was completed or aborted."""
    raw = reader.get(Space.UPLOADS, place_of(upload))
    if raw is None:
        raise NoSuchUpload
    return raw, decode(UploadRow, raw)


def parts_of(reader: Reader, upload_id: bytes, after: int, limit: int) -> list[Part]:
    """Parts with number > `after`, by number."""
    start = part_key(upload_id, min(after, PARTS_MAX) + 1)
    rows = reader.scan(Space.PARTS, start, upload_id + b"\xff\xff", limit)
    return [(int.from_bytes(key[-2:], "big"), decode(PartRow, value)) for key, value in rows]


def drop_part(transaction: Transaction, upload_id: bytes, number: int, part: PartRow) -> None:
    """Remove a part, its stream's reference and its charge."""
    transaction.delete(Space.PARTS, part_key(upload_id, number))
    transaction.share(part.stream, -1)
    transaction.refund(part.lease, part.charged)


def to_upload(bucket: Bucket, key: str, upload_id: bytes, row: UploadRow) -> Upload:
    """The model's view of an upload."""
    return Upload(
        bucket,
        key,
        upload_id.hex(),
        row.started_ns,
        attributes_of(row),
        Algorithm(row.algorithm) if row.algorithm else None,
        row.composite,
    )


def to_summary(number: int, part: PartRow, algorithm: Algorithm | None) -> PartSummary:
    """The model's view of a part."""
    checksum = Checksum(algorithm, part.digest) if algorithm and part.digest else None
    return PartSummary(number, part.size, part.etag, part.modified_ns, checksum)
