"""The operations that are served, as values: what the address and query of a request ask for.

Headers are read by the handlers. `Fixed` is a known operation whose answer never changes: an empty
configuration, "not configured", or NotImplemented.
"""

from http import HTTPStatus
from typing import Any

import msgspec

from gateway.errors import StoreError

PAGE_MAX = 1000


# ------------------------------------------------------------------ service and buckets
class ListBuckets(msgspec.Struct, frozen=True):
    """GET /"""

    prefix: str
    after: str  # continuation token: the last name seen
    limit: int  # 0: all


class CreateBucket(msgspec.Struct, frozen=True):
    """PUT /bucket"""

    bucket: str


class HeadBucket(msgspec.Struct, frozen=True):
    """HEAD /bucket"""

    bucket: str


class DeleteBucket(msgspec.Struct, frozen=True):
    """DELETE /bucket"""

    bucket: str


class GetBucketLocation(msgspec.Struct, frozen=True):
    """GET /bucket?location"""

    bucket: str


class GetBucketVersioning(msgspec.Struct, frozen=True):
    """GET /bucket?versioning"""

    bucket: str


class PutBucketVersioning(msgspec.Struct, frozen=True):
    """PUT /bucket?versioning"""

    bucket: str


class GetBucketAcl(msgspec.Struct, frozen=True):
    """GET /bucket?acl"""

    bucket: str


class PutBucketAcl(msgspec.Struct, frozen=True):
    """PUT /bucket?acl"""

    bucket: str


class GetBucketPolicyStatus(msgspec.Struct, frozen=True):
    """GET /bucket?policyStatus"""

    bucket: str


class PutSetting(msgspec.Struct, frozen=True):
    """PUT of one of a bucket's settings (gateway/s3/settings.py)."""

    name: str  # in S3's model
    bucket: str
    parameter: str


class GetSetting(msgspec.Struct, frozen=True):
    """GET of one."""

    name: str
    bucket: str
    parameter: str


class DeleteSetting(msgspec.Struct, frozen=True):
    """DELETE of one."""

    name: str
    bucket: str
    parameter: str


class PutConfiguration(msgspec.Struct, frozen=True):
    """PUT of one of several configurations of a kind (gateway/s3/numbered.py)."""

    name: str  # in S3's model
    bucket: str
    parameter: str
    id: str


class GetConfiguration(msgspec.Struct, frozen=True):
    """GET of one."""

    name: str
    bucket: str
    parameter: str
    id: str


class DeleteConfiguration(msgspec.Struct, frozen=True):
    """DELETE of one."""

    name: str
    bucket: str
    parameter: str
    id: str


class ListConfigurations(msgspec.Struct, frozen=True):
    """GET without an id: a page of those behind `token`."""

    name: str
    bucket: str
    parameter: str
    token: str


class Preflight(msgspec.Struct, frozen=True):
    """OPTIONS of a bucket or an object: may a page of another origin ask?"""

    bucket: str


class Fixed(msgspec.Struct, frozen=True):
    """A known operation with a fixed answer, after the usual checks of caller and bucket."""

    name: str
    bucket: str
    error: type[StoreError] | None = None
    status: HTTPStatus = HTTPStatus.OK
    body: str = ""
    key: str = ""


# ------------------------------------------------------------------ lists
class ListObjects(msgspec.Struct, frozen=True):
    """GET /bucket"""

    bucket: str
    prefix: str
    delimiter: str
    marker: str
    max_keys: int
    url_encoded: bool


class ListObjectsV2(msgspec.Struct, frozen=True):
    """GET /bucket?list-type=2"""

    bucket: str
    prefix: str
    delimiter: str
    start_after: str
    continuation_token: str | None
    max_keys: int
    fetch_owner: bool
    url_encoded: bool


class ListObjectVersions(msgspec.Struct, frozen=True):
    """GET /bucket?versions"""

    bucket: str
    prefix: str
    delimiter: str
    key_marker: str
    version_id_marker: str
    max_keys: int
    url_encoded: bool


class ListMultipartUploads(msgspec.Struct, frozen=True):
    """GET /bucket?uploads"""

    bucket: str
    prefix: str
    delimiter: str
    key_marker: str
    upload_id_marker: str
    max_uploads: int
    url_encoded: bool


class DeleteObjects(msgspec.Struct, frozen=True):
    """POST /bucket?delete"""

    bucket: str


# ------------------------------------------------------------------ objects
class GetObject(msgspec.Struct, frozen=True):
    """GET /bucket/key; HEAD too."""

    bucket: str
    key: str
    version_id: str | None = None
    part_number: int | None = None
    overrides: tuple[tuple[str, str], ...] = ()  # response header -> value
    head: bool = False


class PutObject(msgspec.Struct, frozen=True):
    """PUT /bucket/key"""

    bucket: str
    key: str


class PostObject(msgspec.Struct, frozen=True):
    """POST /bucket of a form with a file. The key is known once the form was read."""

    bucket: str
    key: str = ""
    form: Any = None  # gateway.s3.forms.Form, then


class CopyObject(msgspec.Struct, frozen=True):
    """PUT /bucket/key with x-amz-copy-source"""

    bucket: str
    key: str
    source: str


class RenameObject(msgspec.Struct, frozen=True):
    """PUT /bucket/key?renameObject"""

    bucket: str
    key: str
    version_id: str | None = None


class DeleteObject(msgspec.Struct, frozen=True):
    """DELETE /bucket/key"""

    bucket: str
    key: str
    version_id: str | None = None


class GetObjectAcl(msgspec.Struct, frozen=True):
    """GET /bucket/key?acl"""

    bucket: str
    key: str
    version_id: str | None = None


class PutObjectAcl(msgspec.Struct, frozen=True):
    """PUT /bucket/key?acl"""

    bucket: str
    key: str
    version_id: str | None = None


class GetObjectTagging(msgspec.Struct, frozen=True):
    """GET /bucket/key?tagging"""

    bucket: str
    key: str
    version_id: str | None = None


class PutObjectTagging(msgspec.Struct, frozen=True):
    """PUT /bucket/key?tagging"""

    bucket: str
    key: str
    version_id: str | None = None


class DeleteObjectTagging(msgspec.Struct, frozen=True):
    """DELETE /bucket/key?tagging"""

    bucket: str
    key: str
    version_id: str | None = None


class UpdateObjectEncryption(msgspec.Struct, frozen=True):
    """PUT /bucket/key?encryption"""

    bucket: str
    key: str
    version_id: str | None = None


class GetObjectRetention(msgspec.Struct, frozen=True):
    """GET /bucket/key?retention"""

    bucket: str
    key: str
    version_id: str | None = None


class PutObjectRetention(msgspec.Struct, frozen=True):
    """PUT /bucket/key?retention"""

    bucket: str
    key: str
    version_id: str | None = None


class GetObjectLegalHold(msgspec.Struct, frozen=True):
    """GET /bucket/key?legal-hold"""

    bucket: str
    key: str
    version_id: str | None = None


class PutObjectLegalHold(msgspec.Struct, frozen=True):
    """PUT /bucket/key?legal-hold"""

    bucket: str
    key: str
    version_id: str | None = None


class GetObjectAttributes(msgspec.Struct, frozen=True):
    """GET /bucket/key?attributes"""

    bucket: str
    key: str
    version_id: str | None = None


# ------------------------------------------------------------------ multipart
class CreateMultipartUpload(msgspec.Struct, frozen=True):
    """POST /bucket/key?uploads"""

    bucket: str
    key: str


class UploadPart(msgspec.Struct, frozen=True):
    """PUT /bucket/key?partNumber=N&uploadId=ID"""

    bucket: str
    key: str
    upload_id: str
    number: int


class UploadPartCopy(msgspec.Struct, frozen=True):
    """The same with x-amz-copy-source"""

    bucket: str
    key: str
    upload_id: str
    number: int
    source: str


class ListParts(msgspec.Struct, frozen=True):
    """GET /bucket/key?uploadId=ID"""

    bucket: str
    key: str
    upload_id: str
    after: int
    max_parts: int
    url_encoded: bool


class CompleteMultipartUpload(msgspec.Struct, frozen=True):
    """POST /bucket/key?uploadId=ID"""

    bucket: str
    key: str
    upload_id: str


class AbortMultipartUpload(msgspec.Struct, frozen=True):
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
    | GetBucketVersioning
    | PutBucketVersioning
    | GetBucketAcl
    | PutBucketAcl
    | GetBucketPolicyStatus
    | PutSetting
    | GetSetting
    | DeleteSetting
    | PutConfiguration
    | GetConfiguration
    | DeleteConfiguration
    | ListConfigurations
    | Preflight
    | Fixed
    | ListObjects
    | ListObjectsV2
    | ListObjectVersions
    | ListMultipartUploads
    | DeleteObjects
    | GetObject
    | PutObject
    | PostObject
    | CopyObject
    | RenameObject
    | DeleteObject
    | GetObjectAcl
    | PutObjectAcl
    | GetObjectTagging
    | PutObjectTagging
    | DeleteObjectTagging
    | GetObjectRetention
    | PutObjectRetention
    | GetObjectLegalHold
    | PutObjectLegalHold
    | GetObjectAttributes
    | UpdateObjectEncryption
    | CreateMultipartUpload
    | UploadPart
    | UploadPartCopy
    | ListParts
    | CompleteMultipartUpload
    | AbortMultipartUpload
)


_NAMED = (
    Fixed, PutSetting, GetSetting, DeleteSetting, PutConfiguration, GetConfiguration,
    DeleteConfiguration, ListConfigurations,
)  # fmt: skip


def name_of(operation: Operation) -> str:
    """The operation's name in S3's model."""
    if isinstance(operation, _NAMED):
        return operation.name
    if isinstance(operation, GetObject) and operation.head:
        return "HeadObject"
    if isinstance(operation, PostObject):
        return "PutObject"
    return type(operation).__name__
