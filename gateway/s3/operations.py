"""The operations that are served, as values: what the address and query of a request ask for.

Headers are read by the handlers. `Fixed` is a known operation whose answer never changes: an empty
configuration, "not configured", or NotImplemented.
"""

from dataclasses import dataclass
from http import HTTPStatus

from gateway.errors import StoreError

PAGE_MAX = 1000


# ------------------------------------------------------------------ service and buckets
@dataclass(frozen=True, slots=True)
class ListBuckets:
    """GET /"""

    prefix: str
    after: str  # continuation token: the last name seen
    limit: int  # 0: all


@dataclass(frozen=True, slots=True)
class CreateBucket:
    """PUT /bucket"""

    bucket: str


@dataclass(frozen=True, slots=True)
class HeadBucket:
    """HEAD /bucket"""

    bucket: str


@dataclass(frozen=True, slots=True)
class DeleteBucket:
    """DELETE /bucket"""

    bucket: str


@dataclass(frozen=True, slots=True)
class GetBucketLocation:
    """GET /bucket?location"""

    bucket: str


@dataclass(frozen=True, slots=True)
class GetBucketAcl:
    """GET /bucket?acl"""

    bucket: str


@dataclass(frozen=True, slots=True)
class PutBucketAcl:
    """PUT /bucket?acl"""

    bucket: str


@dataclass(frozen=True, slots=True)
class GetBucketPolicyStatus:
    """GET /bucket?policyStatus"""

    bucket: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """A known operation with a fixed answer, after the usual checks of caller and bucket."""

    name: str
    bucket: str
    error: type[StoreError] | None = None
    status: HTTPStatus = HTTPStatus.OK
    body: str = ""
    key: str = ""


# ------------------------------------------------------------------ lists
@dataclass(frozen=True, slots=True)
class ListObjects:
    """GET /bucket"""

    bucket: str
    prefix: str
    delimiter: str
    marker: str
    max_keys: int
    url_encoded: bool


@dataclass(frozen=True, slots=True)
class ListObjectsV2:
    """GET /bucket?list-type=2"""

    bucket: str
    prefix: str
    delimiter: str
    start_after: str
    continuation_token: str | None
    max_keys: int
    fetch_owner: bool
    url_encoded: bool


@dataclass(frozen=True, slots=True)
class ListObjectVersions:
    """GET /bucket?versions"""

    bucket: str
    prefix: str
    delimiter: str
    key_marker: str
    max_keys: int
    url_encoded: bool


@dataclass(frozen=True, slots=True)
class ListMultipartUploads:
    """GET /bucket?uploads"""

    bucket: str
    prefix: str
    delimiter: str
    key_marker: str
    upload_id_marker: str
    max_uploads: int
    url_encoded: bool


@dataclass(frozen=True, slots=True)
class DeleteObjects:
    """POST /bucket?delete"""

    bucket: str


# ------------------------------------------------------------------ objects
@dataclass(frozen=True, slots=True)
class GetObject:
    """GET /bucket/key; HEAD too."""

    bucket: str
    key: str
    version_id: str | None = None
    part_number: int | None = None
    overrides: tuple[tuple[str, str], ...] = ()  # response header -> value
    head: bool = False


@dataclass(frozen=True, slots=True)
class PutObject:
    """PUT /bucket/key"""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class CopyObject:
    """PUT /bucket/key with x-amz-copy-source"""

    bucket: str
    key: str
    source: str


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """DELETE /bucket/key"""

    bucket: str
    key: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetObjectAcl:
    """GET /bucket/key?acl"""

    bucket: str
    key: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class PutObjectAcl:
    """PUT /bucket/key?acl"""

    bucket: str
    key: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetObjectTagging:
    """GET /bucket/key?tagging: no object has tags yet."""

    bucket: str
    key: str
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class GetObjectAttributes:
    """GET /bucket/key?attributes"""

    bucket: str
    key: str
    version_id: str | None = None


# ------------------------------------------------------------------ multipart
@dataclass(frozen=True, slots=True)
class CreateMultipartUpload:
    """POST /bucket/key?uploads"""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class UploadPart:
    """PUT /bucket/key?partNumber=N&uploadId=ID"""

    bucket: str
    key: str
    upload_id: str
    number: int


@dataclass(frozen=True, slots=True)
class UploadPartCopy:
    """The same with x-amz-copy-source"""

    bucket: str
    key: str
    upload_id: str
    number: int
    source: str


@dataclass(frozen=True, slots=True)
class ListParts:
    """GET /bucket/key?uploadId=ID"""

    bucket: str
    key: str
    upload_id: str
    after: int
    max_parts: int
    url_encoded: bool


@dataclass(frozen=True, slots=True)
class CompleteMultipartUpload:
    """POST /bucket/key?uploadId=ID"""

    bucket: str
    key: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class AbortMultipartUpload:
    """DELETE /bucket/key?uploadId=ID"""

    bucket: str
    key: str
    upload_id: str


Operation = (
    ListBuckets
    | CreateBucket
    | HeadBucket
    | DeleteBucket
    | GetBucketLocation
    | GetBucketAcl
    | PutBucketAcl
    | GetBucketPolicyStatus
    | Fixed
    | ListObjects
    | ListObjectsV2
    | ListObjectVersions
    | ListMultipartUploads
    | DeleteObjects
    | GetObject
    | PutObject
    | CopyObject
    | DeleteObject
    | GetObjectAcl
    | PutObjectAcl
    | GetObjectTagging
    | GetObjectAttributes
    | CreateMultipartUpload
    | UploadPart
    | UploadPartCopy
    | ListParts
    | CompleteMultipartUpload
    | AbortMultipartUpload
)


def name_of(operation: Operation) -> str:
    """The operation's name in S3's model."""
    if isinstance(operation, Fixed):
        return operation.name
    if isinstance(operation, GetObject) and operation.head:
        return "HeadObject"
    return type(operation).__name__
