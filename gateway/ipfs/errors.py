"""What can be wrong with IPFS bytes and requests; `app` maps them to a status."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar


class BlockError(ValueError):
    """Bytes that are no block of the codec they claim, or break a limit."""


class IpfsError(Exception):
    """Base: the request cannot be answered with content. The text goes to the client."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: ClassVar[Mapping[str, str]] = {}  # beside those of every refusal


class BadRequest(IpfsError):
    """The path, CID or a parameter is malformed."""

    status = HTTPStatus.BAD_REQUEST


class NotFound(IpfsError):
    """This network holds no such content, or not in the open."""

    status = HTTPStatus.NOT_FOUND


class NotFetched(NotFound):
    """Nor do the gateways that are asked for it give it; another time they may."""

    status = HTTPStatus.BAD_GATEWAY


class Unresolved(IpfsError):
    """The name leads nowhere: no record, none that lives, or names without an end."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class Incomplete(IpfsError):
    """A DAG that is to be here as a whole lacks a block."""

    status = HTTPStatus.BAD_REQUEST


class NotPinned(IpfsError):
    """There is no such pin."""

    status = HTTPStatus.NOT_FOUND


class AlreadyPinned(IpfsError):
    """A pin of the block alone, where a recursive one keeps it."""

    status = HTTPStatus.CONFLICT


class NotHere(IpfsError):
    """`Cache-Control: only-if-cached`, and it is not here."""

    status = HTTPStatus.PRECONDITION_FAILED


class NotAcceptable(IpfsError):
    """The content cannot be had in the format asked for."""

    status = HTTPStatus.NOT_ACCEPTABLE


class NotSupported(IpfsError):
    """A known request that this release does not serve."""

    status = HTTPStatus.NOT_IMPLEMENTED


class TakesTooLong(IpfsError):
    """The request walks through more blocks, or for longer, than one may."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class Denied(IpfsError):
    """A denylist blocks the content."""

    status = HTTPStatus.GONE


class DeniedByLaw(Denied):
    """A denylist blocks the content, for a legal reason."""

    status = HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS


class RulesUnknown(IpfsError):
    """There are denylists and they cannot be read."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "10"}


class Busy(IpfsError):
    """More requests at once than this worker, or this client, may have."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}
