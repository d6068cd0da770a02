"""Who asks: chooses the signature scheme of a request and checks it."""

from collections.abc import Mapping

import msgspec

from gateway.errors import InvalidArgument
from gateway.iam.identity import Identity
from gateway.model import Account, Credential
from gateway.s3.errors import AuthError
from gateway.s3.request import Request, with_query_headers
from gateway.s3.sigv2 import SigV2
from gateway.s3.sigv4 import (
    UNSIGNED_PAYLOAD,
    ChunkSigner,
    Credentials,
    Sessions,
    SigV4,
    no_sessions,
)

_V4_PARAMETERS = frozenset(("X-Amz-Algorithm", "X-Amz-Signature", "X-Amz-Credential"))


class Caller(msgspec.Struct, frozen=True):
    """A proved account, or nobody; and what the signature says about the body.

    `identity`: the user or session that acts for the account, None for the account itself.
    """

    account: Account | None = None
    payload: str = UNSIGNED_PAYLOAD  # x-amz-content-sha256
    chunks: ChunkSigner | None = None
    identity: Identity | None = None


def _proved(credential: Credential, payload: str, chunks: ChunkSigner | None = None) -> Caller:
    return Caller(credential.account, payload, chunks, credential.identity)


class Authenticator:
    """SigV4 and (unless switched off) SigV2, by header or query; neither is anonymous."""

    def __init__(
        self,
        credentials: Credentials,
        sessions: Sessions = no_sessions,
        *,
        region: str = "",
        sigv2: bool = True,
    ) -> None:
        self._v4 = SigV4(credentials, sessions, region=region)
        self._v2 = SigV2(credentials, sessions) if sigv2 else None

    def authenticate(self, request: Request, now: float) -> Caller:
        """Raises AuthError and what the schemes raise."""
        if request.method == "OPTIONS":
            # A browser signs no preflight: the query may be of the URL that it is about to use.
            return Caller()
        header = request.headers.get("authorization") or None  # empty: nobody
        query = request.query
        v4_query = not query.keys().isdisjoint(_V4_PARAMETERS)
        v2_query = "AWSAccessKeyId" in query or ("Signature" in query and not v4_query)
        if (header is not None) + v4_query + v2_query > 1:
            raise InvalidArgument(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified",
            )
        if header is not None:
            return self._by_header(request, header, now)
        if v4_query:
            proved = self._v4.verify_query(request, now)
            return _proved(proved.credential, proved.payload, proved.chunks)
        payload = request.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
        if v2_query:
            presigned = with_query_headers(request)
            return _proved(self._sigv2().verify_query(presigned, now), payload)
        return Caller(None, payload)

    def authenticate_form(self, fields: Mapping[str, str], now: float) -> Caller:
        """Who signed a form's policy; nobody without any signature.

        `fields` by lower-case name. Raises AuthError, InvalidArgument.
        """
        if "x-amz-signature" in fields or "x-amz-credential" in fields:
            return _proved(self._v4.verify_policy(fields, now), UNSIGNED_PAYLOAD)
        if "signature" in fields or "awsaccesskeyid" in fields:
            return _proved(self._sigv2().verify_policy(fields, now), UNSIGNED_PAYLOAD)
        return Caller()

    def _by_header(self, request: Request, header: str, now: float) -> Caller:
        scheme = header.partition(" ")[0]
        if scheme == "AWS4-HMAC-SHA256":
            proved = self._v4.verify_header(request, now)
            return _proved(proved.credential, proved.payload, proved.chunks)
        if scheme == "AWS":
            payload = request.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
            return _proved(self._sigv2().verify_header(request, now), payload)
        raise InvalidArgument(
            "Unsupported Authorization Type",
            ArgumentName="Authorization",
            ArgumentValue=header[:64],
        )

    def _sigv2(self) -> SigV2:
        if self._v2 is None:
            raise AuthError(
                "The authorization mechanism you have provided is not supported. Please use "
                "AWS4-HMAC-SHA256."
            )
        return self._v2
