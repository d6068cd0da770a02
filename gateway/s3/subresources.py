"""Sub-resources that S3 has and that this release answers in one fixed way.

A client that asks for what a bucket has not got expects AWS's "not configured" code or an empty
document, and goes on; a client that wants to set it must hear NotImplemented.
"""

from dataclasses import dataclass
from http import HTTPStatus

from gateway.errors import NoSuchKey, NotImplementedHere, StoreError

_XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass(frozen=True, slots=True)
class Answer:
    """An operation's name and its fixed answer: an error, or a status and a document."""

    name: str
    error: type[StoreError] | None = None
    status: HTTPStatus = HTTPStatus.OK
    body: str = ""


def _empty(name: str, element: str) -> Answer:
    return Answer(name, body=f"<{element} {_XMLNS}/>")


def _refused(name: str) -> Answer:
    return Answer(name, error=NotImplementedHere)


# (method, parameter) -> answer, for buckets
BUCKET_ANSWERS: dict[tuple[str, str], Answer] = {
    ("GET", "accelerate"): _empty("GetBucketAccelerateConfiguration", "AccelerateConfiguration"),
    ("PUT", "accelerate"): _refused("PutBucketAccelerateConfiguration"),
    ("GET", "abac"): _refused("GetBucketAbac"),
    ("PUT", "abac"): _refused("PutBucketAbac"),
    ("GET", "session"): _refused("CreateSession"),
    ("POST", "metadataConfiguration"): _refused("CreateBucketMetadataConfiguration"),
    ("GET", "metadataConfiguration"): _refused("GetBucketMetadataConfiguration"),
    ("DELETE", "metadataConfiguration"): _refused("DeleteBucketMetadataConfiguration"),
    ("POST", "metadataTable"): _refused("CreateBucketMetadataTableConfiguration"),
    ("GET", "metadataTable"): _refused("GetBucketMetadataTableConfiguration"),
    ("DELETE", "metadataTable"): _refused("DeleteBucketMetadataTableConfiguration"),
    ("PUT", "metadataAnnotationTable"): _refused(
        "UpdateBucketMetadataAnnotationTableConfiguration"
    ),
    ("PUT", "metadataInventoryTable"): _refused("UpdateBucketMetadataInventoryTableConfiguration"),
    ("PUT", "metadataJournalTable"): _refused("UpdateBucketMetadataJournalTableConfiguration"),
}  # fmt: skip

# (method, parameter) -> answer, for objects
OBJECT_ANSWERS: dict[tuple[str, str], Answer] = {
    ("GET", "torrent"): Answer("GetObjectTorrent", error=NoSuchKey),  # no object has one
    # (without annotationName: ListObjectAnnotations)
    ("GET", "annotation"): _refused("GetObjectAnnotation"),
    ("PUT", "annotation"): _refused("PutObjectAnnotation"),
    ("DELETE", "annotation"): _refused("DeleteObjectAnnotation"),
    ("POST", "restore"): _refused("RestoreObject"),
    ("POST", "select"): _refused("SelectObjectContent"),
}

SERVED_BUCKET = frozenset(
    {
        "acl",
        "location",
        "policyStatus",
        "uploads",
        "versioning",
        "versions",
        "delete",
    }
)
SERVED_OBJECT = frozenset(
    {
        "renameObject",
        "acl",
        "attributes",
        "encryption",
        "legal-hold",
        "retention",
        "tagging",
        "uploads",
        "uploadId",
    }
)
BUCKET_PARAMETERS = SERVED_BUCKET | {name for _, name in BUCKET_ANSWERS}
OBJECT_PARAMETERS = SERVED_OBJECT | {name for _, name in OBJECT_ANSWERS}
