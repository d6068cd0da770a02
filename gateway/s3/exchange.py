"""What a handler gets and what it gives back."""

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

import msgspec

from chain.net.transport import Buffer
from gateway.digests import digests_of
from gateway.errors import AccessDenied
from gateway.model import Account, Bucket, ObjectVersion
from gateway.s3.access import Action
from gateway.s3.attributes import Headers
from gateway.s3.auth import Caller
from gateway.s3.body import RequestBody
from gateway.s3.checksums import plan
from gateway.s3.config import S3Config
from gateway.s3.errors import MissingRequestBody
from gateway.s3.permission import Permission
from gateway.s3.request import Request

if TYPE_CHECKING:
    from gateway.objects import ObjectService

XML_TYPE = (b"content-type", b"application/xml")


class Part(msgspec.Struct, frozen=True):
    """What became of one object of a request that is about many: for the access log."""

    key: str
    version_id: str
    status: int
    error: str = ""  # its code


class Reply(msgspec.Struct):
    """A status, headers, and a body: `body`, then what `stream` gives (`length` bytes in all)."""

    status: int = 200
    headers: Headers = msgspec.field(default_factory=list)
    body: Buffer = b""
    stream: AsyncGenerator[Buffer] | None = None
    length: int | None = None
    parts: Sequence[Part] = ()


def xml_reply(document: bytes, headers: Headers | None = None) -> Reply:
    """200 with a document."""
    return Reply(200, [XML_TYPE, *(headers or [])], document)


class Exchange(msgspec.Struct, frozen=True):
    """One authorised request on its way through a handler."""

    request: Request
    caller: Caller
    body: RequestBody
    objects: "ObjectService"
    config: S3Config
    found: Bucket | None  # the bucket the operation names
    permission: Permission
    now_ns: int  # when the request came

    @property
    def bucket(self) -> Bucket:
        assert self.found is not None  # the app looked it up
        return self.found

    @property
    def account(self) -> Account:
        """The caller. Raises AccessDenied for an anonymous one."""
        if self.caller.account is None:
            raise AccessDenied
        return self.caller.account

    def version(
        self, key: str, version_id: str | None, action: Action, operation: str
    ) -> ObjectVersion:
        """A version in the operation's bucket, if the caller may do this with it.

        Raises NoSuchKey, NoSuchVersion, AccessDenied.
        """
        return self.permission.version(self.bucket, key, version_id, action, operation)

    async def document(self, limit: int, *, required: bool = True, claims: bool = True) -> bytes:
        """The request's XML, its signed hash and the checksums it claims verified.

        `claims` False: x-amz-checksum-* speak of something else than this document.
        Raises MissingRequestBody, MaxMessageLengthExceeded, BadDigest, ContentSHA256Mismatch.
        """
        headers = self.request.headers
        if not claims:
            headers = {n: v for n, v in headers.items() if not n.startswith("x-amz-checksum-")}
        integrity = plan(headers, self.body)
        data = await self.body.document(limit)
        if required and not data:
            raise MissingRequestBody
        integrity.verify(digests_of(data, integrity.algorithms))
        return data
