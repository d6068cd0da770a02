"""What IAM and STS refuse, in AWS's words.

https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html
"""

from http import HTTPStatus

from gateway.errors import StoreError


class IamError(StoreError):
    """Base: the request cannot be done."""

    code, status = "InvalidInput", HTTPStatus.BAD_REQUEST
    message = "The request is not valid."


class ValidationError(IamError):
    """A parameter that is missing, too long, or of another form."""

    code = "ValidationError"


class InvalidInput(IamError):
    """A value that the operation does not take."""

    code = "InvalidInput"


class MissingAction(IamError):
    """No Action."""

    code = "MissingAction"
    message = "The request is missing an action or a required parameter."


class InvalidAction(IamError):
    """An operation that the service has not."""

    code = "InvalidAction"
    message = "The action or operation requested is invalid."


class MalformedQuery(IamError):
    """The form cannot be read."""

    code = "MalformedQueryString"
    message = "The query string contains a syntax error."


class NoSuchEntity(IamError):
    """What is named is not there."""

    code, status = "NoSuchEntity", HTTPStatus.NOT_FOUND


class EntityAlreadyExists(IamError):
    """The name is taken."""

    code, status = "EntityAlreadyExists", HTTPStatus.CONFLICT


class DeleteConflict(IamError):
    """Others still depend on it."""

    code, status = "DeleteConflict", HTTPStatus.CONFLICT


class LimitExceeded(IamError):
    """No more of these."""

    code, status = "LimitExceeded", HTTPStatus.CONFLICT


class MalformedPolicyDocument(IamError):
    """A policy that does not follow the grammar."""

    code = "MalformedPolicyDocument"
    message = "Syntax errors in policy."


class PackedPolicyTooLarge(IamError):
    """The policies and tags of a session take too much room."""

    code = "PackedPolicyTooLarge"
    message = "The session policies and tags are too large."


class InvalidIdentityToken(IamError):
    """A web identity that is not what its issuer signed, or not for here."""

    code = "InvalidIdentityToken"
    message = "The web identity token that was passed could not be validated."


class IDPCommunicationError(IamError):
    """The issuer could not be asked."""

    code = "IDPCommunicationError"
    message = "The identity provider's keys could not be fetched. Try again."


class ExpiredIdentity(IamError):
    """A web identity past its time."""

    code = "ExpiredTokenException"
    message = "The web identity token that was passed is expired."


class UnmodifiableEntity(IamError):
    """A policy of AWS's own."""

    code = "InvalidInput"
    message = "The policy is managed by AWS and cannot be changed."


class NotAuthorized(IamError):
    """Who asks may not."""

    code, status = "AccessDenied", HTTPStatus.FORBIDDEN
    message = "Access Denied"


class InvalidClientTokenId(IamError):
    """Nobody has this access key or token."""

    code, status = "InvalidClientTokenId", HTTPStatus.FORBIDDEN
    message = "The security token included in the request is invalid."


class MissingAuthenticationToken(IamError):
    """Nobody signed."""

    code, status = "MissingAuthenticationToken", HTTPStatus.FORBIDDEN
    message = "Request is missing Authentication Token"


class ExpiredToken(IamError):
    """A session past its time."""

    code, status = "ExpiredToken", HTTPStatus.FORBIDDEN
    message = "The security token included in the request is expired"


class IncompleteSignature(IamError):
    """The signature cannot be read."""

    code = "IncompleteSignature"
    message = "The request signature does not conform to AWS standards."


class BadSignature(IamError):
    """The signature is another one than ours, or too old."""

    code, status = "SignatureDoesNotMatch", HTTPStatus.FORBIDDEN
    message = (
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method. Consult the service documentation for "
        "details."
    )
