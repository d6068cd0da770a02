"""Errors of the S3 protocol itself, beyond what any front end can meet (gateway/errors.py).

Codes and statuses are AWS's:
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from http import HTTPStatus

from gateway.errors import StoreError


class ProtocolError(StoreError):
    """Base: the request is wrong before any object is looked at."""

    code, status = "InvalidRequest", HTTPStatus.BAD_REQUEST
    message = "Invalid Request"


class InvalidURI(ProtocolError):
    """The path or query is not percent-encoded UTF-8."""

    code = "InvalidURI"
    message = "Couldn't parse the specified URI."


class MethodNotAllowed(ProtocolError):
    """The resource has no such method."""

    code, status = "MethodNotAllowed", HTTPStatus.METHOD_NOT_ALLOWED
    message = "The specified method is not allowed against this resource."


class MissingContentLength(ProtocolError):
    """Uploads say how long they are."""

    code, status = "MissingContentLength", HTTPStatus.LENGTH_REQUIRED
    message = "You must provide the Content-Length HTTP header."


class MissingRequestBody(ProtocolError):
    """An operation that takes XML came without any."""

    code = "MissingRequestBodyError"
    message = "Request Body is empty"


class MalformedXML(ProtocolError):
    """The XML is not well formed, too large, or not of the operation's schema."""

    code = "MalformedXML"
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )


class MaxMessageLengthExceeded(ProtocolError):
    """A request document above the limit."""

    code = "MaxMessageLengthExceeded"
    message = "Your request was too big."


class IllegalVersioning(ProtocolError):
    """A versioning configuration that says nothing."""

    code = "IllegalVersioningConfigurationException"
    message = "The Versioning element must be specified"


class InvalidRetentionPeriod(ProtocolError):
    """A default retention of no days, or of too many."""

    code = "InvalidRetentionPeriod"
    message = "The retention period must be a positive integer value."


class MalformedACL(ProtocolError):
    """An access control policy that does not follow its schema."""

    code = "MalformedACLError"
    message = (
        "The XML you provided was not well-formed or did not validate against our published schema"
    )


class AccessControlListNotSupported(ProtocolError):
    """A list in a bucket whose ownership controls switch lists off."""

    code = "AccessControlListNotSupported"
    message = "The bucket does not allow ACLs"


class InvalidBucketAclWithObjectOwnership(ProtocolError):
    """Lists are switched off where the bucket's grants something to others."""

    code = "InvalidBucketAclWithObjectOwnership"
    message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"


class UnresolvableGrantByEmailAddress(ProtocolError):
    """No account has this email."""

    code = "UnresolvableGrantByEmailAddress"
    message = "The e-mail address you provided does not match any account on record."


class AmbiguousGrantByEmailAddress(ProtocolError):
    """Several accounts have this email."""

    code = "AmbiguousGrantByEmailAddress"
    message = "The e-mail address you provided is associated with more than one account."


class MissingSecurityHeader(ProtocolError):
    """A list is put without saying which."""

    code = "MissingSecurityHeader"
    message = "Your request was missing a required header"


class UnexpectedContent(ProtocolError):
    """A document beside headers that say the same."""

    code = "UnexpectedContent"
    message = "This request does not support content"


class MetadataTooLarge(ProtocolError):
    """More than 2 KB of x-amz-meta- names and values."""

    code = "MetadataTooLarge"
    message = "Your metadata headers exceed the maximum allowed metadata size"


class InvalidDigest(ProtocolError):
    """Content-MD5 is not base64 of 16 bytes."""

    code = "InvalidDigest"
    message = "The Content-MD5 you specified is not valid."


class InvalidEncryptionAlgorithm(ProtocolError):
    """A client's key is for another algorithm than AES256."""

    code = "InvalidEncryptionAlgorithmError"
    message = "The encryption request you specified is not valid. The valid value is AES256."


class InvalidLocationConstraint(ProtocolError):
    """The bucket is asked for in a region that this endpoint is not."""

    code = "InvalidLocationConstraint"
    message = "The specified location constraint is not valid."


class MalformedTrailer(ProtocolError):
    """The trailer of an aws-chunked body is missing or not the announced one."""

    code = "MalformedTrailerError"
    message = "The request contained trailing data that was not well-formed or did not conform to"


class InvalidChunk(ProtocolError):
    """The framing of an aws-chunked body is broken."""

    code = "InvalidRequest"
    message = "The aws-chunked encoding of the body is not well-formed."


class AuthError(ProtocolError):
    """Base: who asks is not proved."""

    code, status = "AccessDenied", HTTPStatus.FORBIDDEN
    message = "Access Denied"


class SignatureDoesNotMatch(AuthError):
    """The signature is another one than ours."""

    code = "SignatureDoesNotMatch"
    message = (
        "The request signature we calculated does not match the signature you provided. Check "
        "your key and signing method."
    )


class InvalidAccessKeyId(AuthError):
    """Nobody has this access key."""

    code = "InvalidAccessKeyId"
    message = "The AWS Access Key Id you provided does not exist in our records."


class InvalidToken(AuthError):
    """A session token that is none of ours, or with an access key that is not its own."""

    code, status = "InvalidToken", HTTPStatus.BAD_REQUEST
    message = "The provided token is malformed or otherwise invalid."


class ExpiredToken(AuthError):
    """A session past its time."""

    code, status = "ExpiredToken", HTTPStatus.BAD_REQUEST
    message = "The provided token has expired."


class RequestTimeTooSkewed(AuthError):
    """Client and server clocks differ by more than 15 minutes."""

    code = "RequestTimeTooSkewed"
    message = "The difference between the request time and the current time is too large."


class RequestExpired(AuthError):
    """A presigned URL past its time."""

    message = "Request has expired"


class HeadersNotSigned(AuthError):
    """An x-amz- header that the signature does not cover."""

    message = "There were headers present in the request which were not signed"


class AuthorizationHeaderMalformed(AuthError):
    """The Authorization header cannot be parsed or is for another region or service."""

    code, status = "AuthorizationHeaderMalformed", HTTPStatus.BAD_REQUEST
    message = "The authorization header you provided is invalid."


class AuthorizationQueryParametersError(AuthError):
    """The X-Amz- query parameters cannot be parsed or do not go together."""

    code, status = "AuthorizationQueryParametersError", HTTPStatus.BAD_REQUEST
    message = "The authorization query parameters that you provided are not valid."


class ContentSHA256Mismatch(ProtocolError):
    """The body is not the signed one."""

    code = "XAmzContentSHA256Mismatch"
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."


class InvalidTag(ProtocolError):
    """A tag's key or value is not allowed, or there are too many."""

    code = "InvalidTag"
    message = "The tag provided was not a valid tag."


class TooManyTags(ProtocolError):
    """More tags than an object may have."""

    code = "InvalidTag"
    message = "Object tags cannot be greater than 10"


class InvalidCorsRule(ProtocolError):
    """A cross-origin rule that cannot be."""

    message = "The CORS configuration is invalid."


class CopyRangeOutside(ProtocolError):
    """A range of a copy's source that is not all inside of it."""

    code = "InvalidRange"
    message = "The requested range is not inside of the source object."


class CorsWithoutOrigin(ProtocolError):
    """A preflight that does not say where it comes from, or what it is about."""

    code = "BadRequest"
    message = "Insufficient information. Origin and Access-Control-Request-Method headers needed."


class CorsForbidden(ProtocolError):
    """No rule allows what a preflight asks for."""

    code, status = "AccessForbidden", HTTPStatus.FORBIDDEN
    message = "CORSResponse: This CORS request is not allowed."


class NotConfigured(ProtocolError):
    """Base: the sub-resource exists in S3 and this bucket has none."""

    status = HTTPStatus.NOT_FOUND


class NoSuchLifecycleConfiguration(NotConfigured):
    """No lifecycle rules."""

    code = "NoSuchLifecycleConfiguration"
    message = "The lifecycle configuration does not exist"


class NoSuchCORSConfiguration(NotConfigured):
    """No cross-origin rules."""

    code = "NoSuchCORSConfiguration"
    message = "The CORS configuration does not exist"


class NoSuchBucketPolicy(NotConfigured):
    """No bucket policy."""

    code = "NoSuchBucketPolicy"
    message = "The bucket policy does not exist"


class MalformedPolicy(ProtocolError):
    """A bucket policy that does not follow the grammar; the message says why."""

    code = "MalformedPolicy"
    message = "Policies must be valid JSON and the first byte must be '{'"


class PolicyTooLarge(ProtocolError):
    """A bucket policy of more than 20 KiB."""

    code = "PolicyTooLarge"
    message = "The policy exceeds the maximum allowed document size."


class MalformedPOSTRequest(ProtocolError):
    """A form that is no well-formed multipart/form-data."""

    code = "MalformedPOSTRequest"
    message = "The body of your POST request is not well-formed multipart/form-data."


class MaxPostPreDataLengthExceeded(ProtocolError):
    """The fields of a form are longer than any form needs."""

    code = "MaxPostPreDataLengthExceededError"
    message = "Your POST request fields preceding the upload file were too large."


class InvalidPolicyDocument(ProtocolError):
    """The policy of a form cannot be read."""

    code = "InvalidPolicyDocument"
    message = (
        "The content of the form does not meet the conditions specified in the policy document."
    )


class PolicyViolated(ProtocolError):
    """A form that its policy does not allow, or not any more."""

    code, status = "AccessDenied", HTTPStatus.FORBIDDEN
    message = "Invalid according to Policy."


class TooManyConfigurations(ProtocolError):
    """More configurations of one kind than a bucket may have."""

    code, status = "TooManyConfigurations", HTTPStatus.BAD_REQUEST
    message = "You are attempting to create a new configuration but have already reached the limit."


class InvalidS3DestinationBucket(ProtocolError):
    """An inventory's destination is no bucket's ARN."""

    code, status = "InvalidS3DestinationBucket", HTTPStatus.BAD_REQUEST
    message = "Invalid bucket name or ARN specified for the destination."


class InvalidTargetBucketForLogging(ProtocolError):
    """Access logs cannot go there."""

    code, status = "InvalidTargetBucketForLogging", HTTPStatus.BAD_REQUEST
    message = "The target bucket for logging does not exist"


class NoSuchTagSet(NotConfigured):
    """No bucket tags."""

    code = "NoSuchTagSet"
    message = "The TagSet does not exist"


class NoSuchWebsiteConfiguration(NotConfigured):
    """No website."""

    code = "NoSuchWebsiteConfiguration"
    message = "The specified bucket does not have a website configuration"


class NoSuchConfiguration(NotConfigured):
    """No analytics, inventory, metrics or tiering configuration of this id."""

    code = "NoSuchConfiguration"
    message = "The specified configuration does not exist."


class EncryptionConfigurationNotFound(NotConfigured):
    """No default encryption was chosen (everything is sealed anyway: docs/adr/171)."""

    code = "ServerSideEncryptionConfigurationNotFoundError"
    message = "The server side encryption configuration was not found"


class ObjectLockConfigurationNotFound(NotConfigured):
    """No object lock."""

    code = "ObjectLockConfigurationNotFoundError"
    message = "Object Lock configuration does not exist for this bucket"


class NoSuchObjectLockConfiguration(NotConfigured):
    """No retention or legal hold on the object."""

    code = "NoSuchObjectLockConfiguration"
    message = "The specified object does not have a ObjectLock configuration"


class ReplicationConfigurationNotFound(NotConfigured):
    """No replication."""

    code = "ReplicationConfigurationNotFoundError"
    message = "The replication configuration was not found"


class OwnershipControlsNotFound(NotConfigured):
    """No ownership controls."""

    code = "OwnershipControlsNotFoundError"
    message = "The bucket ownership controls were not found"


class NoSuchPublicAccessBlock(NotConfigured):
    """No public access block."""

    code = "NoSuchPublicAccessBlockConfiguration"
    message = "The public access block configuration was not found"
