"""AWS Signature Version 4 (HMAC-SHA256): header, presigned query and chunk signatures.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
Pure: time is an argument. What the signature says is compared in constant time and only after every
field has been parsed; nothing of the request is believed before.
"""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

import msgspec

from gateway.errors import InvalidArgument
from gateway.model import Credential
from gateway.s3.errors import (
    AuthError,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    HeadersNotSigned,
    InvalidAccessKeyId,
    InvalidToken,
    RequestExpired,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
)
from gateway.s3.request import Request

Credentials = Callable[[str], Credential | None]
# (access key, session token, seconds since 1970) -> credential. Raises InvalidToken, ExpiredToken.
Sessions = Callable[[str, str, float], Credential]

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = sha256(b"").hexdigest()
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
SKEW_SECONDS = 15 * 60
EXPIRES_MAX = 7 * 24 * 3600
SIGNED_HEADERS_MAX = 128
SIGNED_HEADERS_CHARACTERS_MAX = 4096
SCOPE_CHARACTERS_MAX = 512
USUAL_CHARACTERS_MAX = 1024  # of an Authorization header that is kept in a cache

_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]*")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
# How nearly every client writes the header; any other order and spacing takes the slow way.
_USUAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,=]+), ?SignedHeaders=([^,=]+), ?Signature=")
_SIGNATURE_CHARACTERS = 64
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9\-._~/]*")
_PRESIGNED_FIELDS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signing key is good for."""

    access_key: str
    date: str  # YYYYMMDD
    region: str
    service: str
    text: str  # as it stands in what is signed


class Claim(msgspec.Struct, frozen=True):
    """The parts of a signature as a request states them; nothing is verified yet."""

    scope: Scope
    signed_headers: tuple[str, ...]
    signature: str


class SigningKeys:
    """HMACs under derived keys by (secret, day, region, service).

    Deriving a key takes four HMACs (5 µs), so it is kept, already inside an HMAC: a copy of that
    costs 4 µs less at each request than `hmac.digest`. At `limit` entries the cache starts anew.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._keyed: dict[tuple[str, str, str, str], hmac.HMAC] = {}

    def get(self, secret: str, scope: Scope) -> hmac.HMAC:
        """To be copied, not fed."""
        name = (secret, scope.date, scope.region, scope.service)
        keyed = self._keyed.get(name)
        if keyed is None:
            key = f"AWS4{secret}".encode()
            for step in (scope.date, scope.region, scope.service, "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            keyed = hmac.new(key, digestmod="sha256")
            if len(self._keyed) >= self._limit:
                self._keyed.clear()
            self._keyed[name] = keyed
        return keyed


def sign(keyed: hmac.HMAC, text: bytes) -> str:
    """The signature of `text`, lower-case hex."""
    signature = keyed.copy()
    signature.update(text)
    return signature.hexdigest()


class ChunkSigner:
    """The running signature of a STREAMING-AWS4-HMAC-SHA256-PAYLOAD body."""

    def __init__(self, keyed: hmac.HMAC, timestamp: str, scope: str, seed: str) -> None:
        self._keyed = keyed
        self._context = f"{timestamp}\n{scope}\n"
        self._previous = seed

    def check_chunk(self, digest: str, signature: str) -> None:
        """Check one chunk; `digest` is the SHA-256 of its data. Raises SignatureDoesNotMatch."""
        self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{EMPTY_SHA256}\n{digest}", signature)

    def check_trailer(self, digest: str, signature: str) -> None:
        """Check the trailer's signature; `digest` is over its `name:value\\n` lines."""
        self._check("AWS4-HMAC-SHA256-TRAILER", digest, signature)

    def _check(self, kind: str, rest: str, signature: str) -> None:
        text = f"{kind}\n{self._context}{self._previous}\n{rest}"
        expected = sign(self._keyed, text.encode())
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise SignatureDoesNotMatch
        self._previous = expected


class Verified(msgspec.Struct, frozen=True):
    """A proved request."""

    credential: Credential
    payload: str  # the x-amz-content-sha256 that was signed
    chunks: ChunkSigner | None  # for bodies whose chunks are signed


# ------------------------------------------------------------------ parsing
# A client's requests differ in path and signature, hardly ever in scope, header names or second:
# the caches take the verification from 23 to 9 µs. Bounded in number and in length.
@lru_cache(maxsize=1024)
def parse_scope(text: str, refuse: type[AuthError]) -> Scope:
    """`AK/20261123/us-east-1/s3/aws4_request`; an access key may itself hold slashes."""
    if len(text) > SCOPE_CHARACTERS_MAX:
        raise refuse("The Credential is too long.")
    parts = text.rsplit("/", 4)
    if len(parts) != 5 or not all(parts):
        raise refuse(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/'
            'aws4_request".'
        )
    access_key, date, region, service, terminal = parts
    if terminal != "aws4_request":
        raise refuse(f'incorrect terminal "{terminal}". This endpoint uses "aws4_request".')
    if len(date) != 8 or not (date.isascii() and date.isdigit()):
        raise refuse(f'incorrect date format "{date}". This date in the credential must be '
                     'in the format "yyyyMMdd".')  # fmt: skip
    return Scope(access_key, date, region, service, f"{date}/{region}/{service}/aws4_request")


@lru_cache(maxsize=1024)
def parse_signed_headers(text: str, refuse: type[AuthError]) -> tuple[str, ...]:
    """Semicolon-separated lower-case names; `host` must be among them."""
    if len(text) > SIGNED_HEADERS_CHARACTERS_MAX:
        raise refuse("SignedHeaders is too long.")
    names = tuple(text.split(";"))
    if len(names) > SIGNED_HEADERS_MAX or "host" not in names or len(set(names)) != len(names):
        raise refuse("SignedHeaders must name each signed header once, and host among them.")
    return names


@lru_cache(maxsize=1024)
def _parse_usual(text: str) -> tuple[Scope, tuple[str, ...]] | None:
    """What stands before the signature of a header in the usual form, alike for a client's day."""
    usual = _USUAL.fullmatch(text)
    if usual is None:
        return None
    credential, names = usual.groups()
    refuse = AuthorizationHeaderMalformed
    return parse_scope(credential, refuse), parse_signed_headers(names, refuse)


def parse_authorization(value: str) -> Claim:
    """Parse `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…` (any order and spaces).

    Raises AuthorizationHeaderMalformed.
    """
    refuse = AuthorizationHeaderMalformed
    signature = value[-_SIGNATURE_CHARACTERS:]
    if len(value) <= USUAL_CHARACTERS_MAX and _SIGNATURE.fullmatch(signature):
        usual = _parse_usual(value[:-_SIGNATURE_CHARACTERS])
        if usual is not None:
            return Claim(*usual, signature)
    fields: dict[str, str] = {}
    for part in value[len(ALGORITHM) :].split(","):
        name, mark, text = part.strip().partition("=")
        if not mark or name in fields:
            raise refuse("The authorization header is malformed; it must be a list of "
                         "Name=Value pairs.")  # fmt: skip
        fields[name] = text.strip()
    if fields.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise refuse("The authorization header requires Credential, SignedHeaders and Signature.")
    if not _SIGNATURE.fullmatch(fields["Signature"]):
        raise SignatureDoesNotMatch
    return Claim(
        parse_scope(fields["Credential"], refuse),
        parse_signed_headers(fields["SignedHeaders"], refuse),
        fields["Signature"],
    )


@lru_cache(maxsize=1024)
def timestamp_seconds(text: str) -> int | None:
    """Seconds since the epoch of `20261123T003923Z`; None if it is not such a time, or before."""
    if not _DATE.fullmatch(text):
        return None
    try:
        moment = datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]),
            int(text[9:11]), int(text[11:13]), int(text[13:15]), tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return None
    seconds = int(moment.timestamp())
    return seconds if seconds >= 0 else None


def request_timestamp(headers: Mapping[str, str]) -> str:
    """x-amz-date, or Date in the same form. Raises AccessDenied without a usable one."""
    text = headers.get("x-amz-date")
    if text is None and (date := headers.get("date")) is not None:
        try:
            text = parsedate_to_datetime(date).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        except (ValueError, TypeError, OverflowError):
            text = date
    if text is None or timestamp_seconds(text) is None:
        raise AuthError("AWS authentication requires a valid Date or x-amz-date header")
    return text


# ------------------------------------------------------------------ canonical forms
def canonical_path(raw_path: bytes) -> str:
    """The path percent-encoded once, in one way, without normalisation."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path.decode("ascii") or "/"
    return quote(unquote_to_bytes(raw_path), safe="/-_.~") or "/"


def _encode(text: str) -> str:
    # `quote` costs 1 µs, and most names and values need none of it.
    return text if _UNRESERVED.fullmatch(text) else quote(text, safe="-_.~")


def canonical_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Sorted, encoded pairs without the signature itself."""
    if not pairs:
        return ""
    encoded = [
        (_encode(name), _encode(value)) for name, value in pairs if name != "X-Amz-Signature"
    ]
    return "&".join([f"{name}={value}" for name, value in sorted(encoded)])


def string_to_sign(
    request: Request, claim: Claim, timestamp: str, payload: str, path: str
) -> bytes:
    """The bytes under the HMAC."""
    headers = request.headers
    lines = ""
    for name in claim.signed_headers:
        value = headers.get(name, "")
        if "  " in value or value != value.strip():
            value = " ".join(value.split())
        lines += f"{name}:{value}\n"
    query = canonical_query(request.pairs) if request.pairs else ""
    canonical = (
        f"{request.method}\n{path}\n{query}\n{lines}\n{';'.join(claim.signed_headers)}\n{payload}"
    )
    digest = sha256(canonical.encode("latin-1", "replace")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{claim.scope.text}\n{digest}".encode("latin-1", "replace")


def require_fields(fields: Mapping[str, str], *names: str) -> None:
    """Raises InvalidArgument for a form without one of them."""
    for name in names:
        if not fields.get(name):
            raise InvalidArgument(
                f"Bucket POST must contain a field named '{name}'.  If it is specified, please "
                "check the order of the fields.",
                ArgumentName=name,
                ArgumentValue="",
            )


# ------------------------------------------------------------------ verification
def no_sessions(access_key: str, token: str, now: float) -> Credential:
    """Where no sessions are given out."""
    del access_key, token, now
    raise InvalidToken


def known(
    credentials: Credentials, sessions: Sessions, access_key: str, token: str | None, now: float
) -> Credential:
    """Whose access key it is. Raises InvalidAccessKeyId, InvalidToken, ExpiredToken."""
    if token:
        return sessions(access_key, token, now)
    credential = credentials(access_key)
    if credential is None:
        raise InvalidAccessKeyId(AWSAccessKeyId=access_key)
    return credential


class SigV4:
    """Checks requests to one service against the accounts' secrets."""

    def __init__(
        self,
        credentials: Credentials,
        sessions: Sessions = no_sessions,
        *,
        region: str = "",
        service: str = "s3",
    ) -> None:
        self._credentials = credentials
        self._sessions = sessions
        self._service = service
        self._region = region
        self._keys = SigningKeys()

    def verify_header(self, request: Request, now: float, payload: str | None = None) -> Verified:
        """Check an Authorization header. Raises AuthError.

        `payload`: the SHA-256 of a body that was read already; else it has to be a header.
        """
        headers = request.headers
        claim = parse_authorization(headers["authorization"])
        timestamp = request_timestamp(headers)
        _check_skew(timestamp, now)
        self._check_scope(claim.scope, timestamp, AuthorizationHeaderMalformed)
        payload = payload or headers.get("x-amz-content-sha256")
        if payload is None:
            raise AuthorizationHeaderMalformed(
                "Missing required header for this request: x-amz-content-sha256"
            )
        token = headers.get("x-amz-security-token")
        credential = self._known(claim.scope.access_key, token, now)
        return self._verify(request, claim, timestamp, payload, credential)

    def verify_query(self, request: Request, now: float, payload: str | None = None) -> Verified:
        """Check a presigned URL. Raises AuthError."""
        refuse = AuthorizationQueryParametersError
        query = request.query
        names = [name for name, _ in request.pairs]
        if any(names.count(field) != 1 for field in _PRESIGNED_FIELDS):
            raise refuse(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, "
                "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
                "X-Amz-Expires parameters."
            )
        if query["X-Amz-Algorithm"] != ALGORITHM:
            raise refuse(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
        if not _SIGNATURE.fullmatch(query["X-Amz-Signature"]):
            raise SignatureDoesNotMatch
        timestamp = query["X-Amz-Date"]
        signed_at = timestamp_seconds(timestamp)
        if signed_at is None:
            raise refuse("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        claim = Claim(
            parse_scope(query["X-Amz-Credential"], refuse),
            parse_signed_headers(query["X-Amz-SignedHeaders"], refuse),
            query["X-Amz-Signature"],
        )
        self._check_scope(claim.scope, timestamp, refuse)
        _check_expiry(signed_at, query["X-Amz-Expires"], now)
        payload = payload or request.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
        token = query.get("X-Amz-Security-Token")
        credential = self._known(claim.scope.access_key, token, now)
        return self._verify(request, claim, timestamp, payload, credential)

    def verify_policy(self, fields: Mapping[str, str], now: float) -> Credential:
        """Check the signature of a form's policy; the policy itself says until when it is good.

        Raises AuthError, InvalidArgument.
        """
        refuse = AuthorizationQueryParametersError
        require_fields(fields, "policy", "x-amz-credential", "x-amz-date", "x-amz-signature")
        if fields.get("x-amz-algorithm") != ALGORITHM:
            raise refuse(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
        if timestamp_seconds(fields["x-amz-date"]) is None:
            raise refuse("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        scope = parse_scope(fields["x-amz-credential"], refuse)
        self._check_scope(scope, fields["x-amz-date"], refuse)
        credential = self._known(scope.access_key, fields.get("x-amz-security-token"), now)
        expected = sign(self._keys.get(credential.secret_key, scope), fields["policy"].encode())
        if not hmac.compare_digest(expected.encode(), fields["x-amz-signature"].encode()):
            raise SignatureDoesNotMatch(AWSAccessKeyId=scope.access_key)
        return credential

    def _known(self, access_key: str, token: str | None, now: float) -> Credential:
        return known(self._credentials, self._sessions, access_key, token, now)

    def _check_scope(self, scope: Scope, timestamp: str, refuse: type[AuthError]) -> None:
        if scope.service != self._service:
            raise refuse(
                f'incorrect service "{scope.service}". This endpoint belongs to "{self._service}".'
            )
        if self._region and scope.region != self._region:
            raise refuse(
                f"the region '{scope.region}' is wrong; expecting '{self._region}'",
                Region=self._region,
            )
        if scope.date != timestamp[:8]:
            raise refuse("Invalid credential date. Date is not the same as X-Amz-Date.")

    def _verify(
        self, request: Request, claim: Claim, timestamp: str, payload: str, credential: Credential
    ) -> Verified:
        keyed = self._keys.get(credential.secret_key, claim.scope)
        canonical, sent = canonical_path(request.raw_path), request.raw_path.decode("latin-1")
        # Some clients sign the path as they send it; that covers the same bytes.
        for path in (canonical,) if canonical == sent else (canonical, sent):
            text = string_to_sign(request, claim, timestamp, payload, path)
            expected = sign(keyed, text)
            if hmac.compare_digest(expected.encode(), claim.signature.encode()):
                break
        else:
            raise SignatureDoesNotMatch(AWSAccessKeyId=claim.scope.access_key)
        _check_coverage(request.headers, claim.signed_headers)
        chunks = None
        if payload.startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
            chunks = ChunkSigner(keyed, timestamp, claim.scope.text, expected)
        return Verified(credential, payload, chunks)


def _check_coverage(headers: Mapping[str, str], signed: tuple[str, ...]) -> None:
    # The payload hash is a line of the canonical request of its own.
    missing = [
        name
        for name in headers
        if name[:6] == "x-amz-" and name not in signed and name != "x-amz-content-sha256"
    ]
    if missing:
        raise HeadersNotSigned(HeadersNotSigned=", ".join(missing))


def _check_skew(timestamp: str, now: float) -> None:
    signed_at = timestamp_seconds(timestamp)
    assert signed_at is not None  # request_timestamp saw to it
    if abs(now - signed_at) > SKEW_SECONDS:
        raise RequestTimeTooSkewed(RequestTime=timestamp, MaxAllowedSkewMilliseconds="900000")


def _check_expiry(signed_at: int, expires: str, now: float) -> None:
    refuse = AuthorizationQueryParametersError
    if not (expires.isascii() and expires.isdigit()) or len(expires) > 9:
        raise refuse("X-Amz-Expires should be a non-negative number")
    seconds = int(expires)
    if seconds > EXPIRES_MAX:  # 0 is a URL that has expired when it is made
        raise refuse("X-Amz-Expires must be at most 604800 seconds")
    if signed_at - now > SKEW_SECONDS:
        raise RequestTimeTooSkewed(MaxAllowedSkewMilliseconds="900000")
    if now > signed_at + seconds:
        raise RequestExpired(Expires=str(signed_at + seconds), ServerTime=str(int(now)))
