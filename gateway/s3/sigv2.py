"""AWS Signature Version 2 (HMAC-SHA1): header and presigned query.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
boto3 and `aws s3 presign` still choose it for presigned URLs against custom endpoints.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from gateway.errors import InvalidArgument
from gateway.model import Credential
from gateway.s3.errors import (
    AuthError,
    RequestExpired,
    RequestTimeTooSkewed,
    SignatureDoesNotMatch,
)
from gateway.s3.request import Request
from gateway.s3.sigv4 import (
    SKEW_SECONDS,
    Credentials,
    Sessions,
    known,
    no_sessions,
    require_fields,
    timestamp_seconds,
)

SESSION_FIELD = "x-amz-security-token"
# Query parameters that belong to the signed resource.
SIGNED_PARAMETERS = frozenset(
    """
    accelerate acl analytics cors defaultObjectAcl delete inventory legal-hold lifecycle location
    logging metrics notification object-lock partNumber policy policyStatus publicAccessBlock
    replication requestPayment response-cache-control response-content-disposition
    response-content-encoding response-content-language response-content-type response-expires
    restore retention select select-type storageClass tagging torrent uploadId uploads versionId
    versioning versions website
    """.split()  # noqa: SIM905 - one word list reads better
)


def parse_authorization(value: str) -> tuple[str, str]:
    """`AWS KEY:SIGNATURE` -> (access key, signature). Raises InvalidArgument."""
    access_key, mark, signature = value[len("AWS ") :].strip().rpartition(":")
    if not mark or not access_key or not signature:
        raise InvalidArgument(
            "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
            ArgumentName="Authorization",
            ArgumentValue=value[:64],
        )
    return access_key, signature


def canonical_resource(request: Request) -> str:
    """The bucket of a virtual host, the path as sent, and the signed parameters."""
    path = request.raw_path.decode("latin-1")
    if request.virtual_hosted:
        path = f"/{request.bucket}{path}"
    return path + _signed_parameters(request)


def other_resource(request: Request) -> str | None:
    """How botocore signs `/bucket`: as `/bucket/`, which is the same bucket; else None."""
    path = request.raw_path.decode("latin-1")
    if request.key or not request.bucket or request.virtual_hosted or path.endswith("/"):
        return None
    return f"{path}/{_signed_parameters(request)}"


def _signed_parameters(request: Request) -> str:
    chosen = sorted((n, v) for n, v in request.pairs if n in SIGNED_PARAMETERS)
    if not chosen:
        return ""
    return "?" + "&".join([f"{n}={v}" if v else n for n, v in chosen])


def string_to_sign(request: Request, date: str, resource: str | None = None) -> str:
    """The text under the HMAC; `date` is Date, "" (x-amz-date is used) or Expires."""
    headers = request.headers
    if SESSION_FIELD in request.query:  # of a presigned URL: signed as if it were a header
        headers = {**headers, SESSION_FIELD: request.query[SESSION_FIELD]}
    amz = "".join(
        f"{name}:{headers[name].strip()}\n" for name in sorted(headers) if name.startswith("x-amz-")
    )
    md5, content_type = headers.get("content-md5", ""), headers.get("content-type", "")
    resource = canonical_resource(request) if resource is None else resource
    return f"{request.method}\n{md5}\n{content_type}\n{date}\n{amz}{resource}"


def signature_of(secret: str, text: str) -> str:
    """Base64 of HMAC-SHA1."""
    raw = text.encode("latin-1") if _is_latin(text) else text.encode()
    return b64encode(hmac.digest(secret.encode(), raw, "sha1")).decode()


def _is_latin(text: str) -> bool:
    # Header values are Latin-1 images of bytes; decoded parameters may be any Unicode.
    return text.isascii() or all(ord(c) < 256 for c in text)


class SigV2:
    """Checks requests against the accounts' secrets."""

    def __init__(self, credentials: Credentials, sessions: Sessions = no_sessions) -> None:
        self._credentials = credentials
        self._sessions = sessions

    def verify_header(self, request: Request, now: float) -> Credential:
        """Check an Authorization header. Raises AuthError."""
        headers = request.headers
        access_key, signature = parse_authorization(headers["authorization"])
        stated = headers.get("x-amz-date", headers.get("date", ""))
        moment = _http_seconds(stated)
        if moment is None:
            raise AuthError("AWS authentication requires a valid Date or x-amz-date header")
        if abs(now - moment) > SKEW_SECONDS:
            raise RequestTimeTooSkewed(RequestTime=stated, MaxAllowedSkewMilliseconds="900000")
        date = "" if "x-amz-date" in headers else stated
        return self._check(request, access_key, signature, date, now)

    def verify_query(self, request: Request, now: float) -> Credential:
        """Check a presigned URL. Raises AuthError."""
        query = request.query
        names = [name for name, _ in request.pairs]
        if any(names.count(field) != 1 for field in ("AWSAccessKeyId", "Signature", "Expires")):
            raise AuthError(
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId "
                "parameters"
            )
        expires = query["Expires"]
        if not (expires.isascii() and expires.isdigit()) or len(expires) > 12:
            raise AuthError("Invalid date (should be seconds since epoch)")
        access_key, signature = query["AWSAccessKeyId"], query["Signature"]
        credential = self._check(request, access_key, signature, expires, now)
        if now > int(expires):
            raise RequestExpired(Expires=expires, ServerTime=str(int(now)))
        return credential

    def verify_policy(self, fields: Mapping[str, str], now: float) -> Credential:
        """Check the signature of a form's policy. Raises AuthError, InvalidArgument."""
        require_fields(fields, "policy", "awsaccesskeyid", "signature")
        access_key = fields["awsaccesskeyid"]
        token = fields.get("x-amz-security-token")
        credential = known(self._credentials, self._sessions, access_key, token, now)
        expected = signature_of(credential.secret_key, fields["policy"])
        if not hmac.compare_digest(expected.encode(), fields["signature"].encode()):
            raise SignatureDoesNotMatch(AWSAccessKeyId=access_key)
        return credential

    def _check(
        self, request: Request, access_key: str, signature: str, date: str, now: float
    ) -> Credential:
        token = request.headers.get(SESSION_FIELD) or request.query.get(SESSION_FIELD)
        credential = known(self._credentials, self._sessions, access_key, token, now)
        for resource in (canonical_resource(request), other_resource(request)):
            text = "" if resource is None else string_to_sign(request, date, resource)
            expected = signature_of(credential.secret_key, text)
            if text and hmac.compare_digest(expected.encode(), signature.encode()):
                break
        else:
            raise SignatureDoesNotMatch(AWSAccessKeyId=access_key)
        return credential


def _http_seconds(text: str) -> float | None:
    iso = timestamp_seconds(text)
    if iso is not None:
        return iso
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
