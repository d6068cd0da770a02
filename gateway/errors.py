"""What can be wrong with a request, as a table in S3's own words.

S3's error codes are the widest known names for what an object store refuses, so the whole gateway
raises these; each front end renders them in its protocol (S3 XML, IPFS status, CLI line).
"""

from http import HTTPStatus
from typing import ClassVar


class StoreError(Exception):
    """Base: the caller asked for something that cannot be done."""

    code: ClassVar[str] = "InternalError"
    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    message: ClassVar[str] = "We encountered an internal error. Please try again."

    def __init__(self, message: str | None = None, **details: str) -> None:
        self.text = message or self.message
        # Extra XML elements, e.g. ArgumentName.
        self.details = details
        super().__init__(self.text)


class NoSuchBucket(StoreError):
    """There is no bucket of this name."""

    code, status = "NoSuchBucket", HTTPStatus.NOT_FOUND
    message = "The specified bucket does not exist"


class NoSuchKey(StoreError):
    """There is no object of this key."""

    code, status = "NoSuchKey", HTTPStatus.NOT_FOUND
    message = "The specified key does not exist."


class NoSuchUpload(StoreError):
    """There is no such multipart upload."""

    code, status = "NoSuchUpload", HTTPStatus.NOT_FOUND
    message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed."
    )


class NoSuchVersion(StoreError):
    """There is no such version of this object."""

    code, status = "NoSuchVersion", HTTPStatus.NOT_FOUND
    message = "The specified version does not exist."


class DeleteMarker(StoreError):
    """Base: what is asked for is a delete marker."""

    def __init__(self, version_id: str, modified_ns: int) -> None:
        super().__init__()
        self.version_id = version_id
        self.modified_ns = modified_ns


class KeyDeleted(DeleteMarker, NoSuchKey):
    """The key's latest version is a delete marker."""


class MarkerNamed(DeleteMarker):
    """The named version is a delete marker: it can only be deleted."""

    code, status = "MethodNotAllowed", HTTPStatus.METHOD_NOT_ALLOWED
    message = "The specified method is not allowed against this resource."


class InvalidBucketState(StoreError):
    """The request is not for a bucket in this state."""

    code, status = "InvalidBucketState", HTTPStatus.CONFLICT
    message = "The request is not valid for the current state of the bucket."


class BucketAlreadyExists(StoreError):
    """Another account has a bucket of this name."""

    code, status = "BucketAlreadyExists", HTTPStatus.CONFLICT
    message = (
        "The requested bucket name is not available. The bucket namespace is shared by all users "
        "of the system. Please select a different name and try again."
    )


class BucketAlreadyOwnedByYou(StoreError):
    """The caller has this bucket already."""

    code, status = "BucketAlreadyOwnedByYou", HTTPStatus.CONFLICT
    message = "Your previous request to create the named bucket succeeded and you already own it."


class BucketNotEmpty(StoreError):
    """Only empty buckets are deleted."""

    code, status = "BucketNotEmpty", HTTPStatus.CONFLICT
    message = "The bucket you tried to delete is not empty"


class TooManyBuckets(StoreError):
    """The account has as many buckets as one may have."""

    code, status = "TooManyBuckets", HTTPStatus.BAD_REQUEST
    message = "You have attempted to create more buckets than allowed"


class InvalidBucketName(StoreError):
    """The name breaks the naming rules."""

    code, status = "InvalidBucketName", HTTPStatus.BAD_REQUEST
    message = "The specified bucket is not valid."


class KeyTooLong(StoreError):
    """Keys have at most 1,024 bytes of UTF-8."""

    code, status = "KeyTooLongError", HTTPStatus.BAD_REQUEST
    message = "Your key is too long"


class EntityTooLarge(StoreError):
    """More bytes than one request may carry."""

    code, status = "EntityTooLarge", HTTPStatus.BAD_REQUEST
    message = "Your proposed upload exceeds the maximum allowed size"


class EntityTooSmall(StoreError):
    """A part that is not the last has fewer than 5 MiB."""

    code, status = "EntityTooSmall", HTTPStatus.BAD_REQUEST
    message = "Your proposed upload is smaller than the minimum allowed size"


class IncompleteBody(StoreError):
    """The body ended before the length it promised."""

    code, status = "IncompleteBody", HTTPStatus.BAD_REQUEST
    message = "You did not provide the number of bytes specified by the Content-Length HTTP header"


class InvalidPart(StoreError):
    """A part named in CompleteMultipartUpload was not uploaded, or is another one."""

    code, status = "InvalidPart", HTTPStatus.BAD_REQUEST
    message = (
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag."
    )


class InvalidPartOrder(StoreError):
    """Parts must be named in ascending order."""

    code, status = "InvalidPartOrder", HTTPStatus.BAD_REQUEST
    message = "The list of parts was not in ascending order. Parts must be ordered by part number."


class InvalidArgument(StoreError):
    """A parameter has a value it cannot have."""

    code, status = "InvalidArgument", HTTPStatus.BAD_REQUEST
    message = "Invalid Argument"


class InvalidRequest(StoreError):
    """Parameters that do not go together."""

    code, status = "InvalidRequest", HTTPStatus.BAD_REQUEST
    message = "Invalid Request"


class InvalidCar(StoreError):
    """The body of an object that asks to be imported (`import: car`) is no CAR."""

    code, status = "InvalidRequest", HTTPStatus.BAD_REQUEST
    message = "The body is not a CAR."


class InvalidRange(StoreError):
    """The range starts after the end."""

    code, status = "InvalidRange", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    message = "The requested range is not satisfiable"


class InvalidStorageClass(StoreError):
    """No erasure profile has this name."""

    code, status = "InvalidStorageClass", HTTPStatus.BAD_REQUEST
    message = "The storage class you specified is not valid"


class BadDigest(StoreError):
    """The bytes do not have the checksum that came with them."""

    code, status = "BadDigest", HTTPStatus.BAD_REQUEST
    message = "The Content-MD5 or checksum value that you specified did not match what we received."


class AccessDenied(StoreError):
    """This caller may not do this."""

    code, status = "AccessDenied", HTTPStatus.FORBIDDEN
    message = "Access Denied"


class CustomerKeyMissing(InvalidRequest):
    """The object is encrypted with a key of the client's, and the request brings none."""

    message = (
        "The object was stored using a form of Server Side Encryption. The correct parameters must "
        "be provided to retrieve the object."
    )


class CustomerKeyWrong(AccessDenied):
    """The client's key is not the one that the object was stored with."""

    message = (
        "Requests specifying Server Side Encryption with Customer provided keys must provide the "
        "correct secret key."
    )


class CustomerKeyNotNeeded(InvalidRequest):
    """A client's key for an object that was stored without one."""

    message = "The encryption parameters are not applicable to this object."


class KmsKeyNotFound(StoreError):
    """There is no KMS key of this id, and none may be made."""

    code, status = "KMS.NotFoundException", HTTPStatus.BAD_REQUEST
    message = "The request was rejected because the specified entity or resource could not be found"


class KmsKeyDisabled(StoreError):
    """The KMS key is switched off."""

    code, status = "KMS.DisabledException", HTTPStatus.BAD_REQUEST
    message = "The request was rejected because the specified KMS key is not enabled."


class QuotaExceeded(StoreError):
    """The account's lease has no room for these bytes."""

    code, status = "QuotaExceeded", HTTPStatus.FORBIDDEN
    message = (
        "The account has no storage lease with room for this object: bid with `cumulus market "
        "bid`, or ask the network's owner for space."
    )


class PreconditionFailed(StoreError):
    """An If-* condition does not hold."""

    code, status = "PreconditionFailed", HTTPStatus.PRECONDITION_FAILED
    message = "At least one of the pre-conditions you specified did not hold"


class ConditionalRequestConflict(StoreError):
    """Another write of the same key came between."""

    code, status = "ConditionalRequestConflict", HTTPStatus.CONFLICT
    message = (
        "A conflicting operation occurred during this conditional request. Try the request again."
    )


class SlowDown(StoreError):
    """Too few miners, too little disk, or too many requests now. A retry succeeds later."""

    code, status = "SlowDown", HTTPStatus.SERVICE_UNAVAILABLE
    message = "Please reduce your request rate."


class ServiceUnavailable(StoreError):
    """A part of the network does not answer now."""

    code, status = "ServiceUnavailable", HTTPStatus.SERVICE_UNAVAILABLE
    message = "Service is unable to handle request."


class NotImplementedHere(StoreError):
    """A known operation that this release does not serve."""

    code, status = "NotImplemented", HTTPStatus.NOT_IMPLEMENTED
    message = "A header or query you provided implies functionality that is not implemented"
