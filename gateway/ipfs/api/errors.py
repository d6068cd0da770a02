"""What a command can be refused with: Kubo's JSON form, `{"Message", "Code", "Type": "error"}`."""

from http import HTTPStatus

from gateway.catalog.interface import CatalogUnavailable
from gateway.errors import StoreError
from gateway.ipfs.errors import BlockError, IpfsError
from gateway.ipfs.ipns.keybook import KeyBookError
from gateway.ipfs.ipns.keys import InvalidKey

NORMAL, CLIENT, FORBIDDEN = 0, 1, 4  # Code: what went wrong in the words of Kubo's clients


class ApiError(Exception):
    """The command failed: 500, as Kubo answers whatever a command finds wrong."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = NORMAL


class BadCall(ApiError):
    """An argument, an option or the body is malformed."""

    status = HTTPStatus.BAD_REQUEST
    code = CLIENT


class Refused(ApiError):
    """A browser, or no token that is valid."""

    status = HTTPStatus.FORBIDDEN
    code = FORBIDDEN


class UnknownCommand(ApiError):
    """There is no such command here."""

    status = HTTPStatus.NOT_FOUND


# What a command may raise and a client is told.
TOLD = (
    ApiError, IpfsError, BlockError, KeyBookError, InvalidKey, StoreError, CatalogUnavailable,
)  # fmt: skip
