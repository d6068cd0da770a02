"""A line of an access log. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from gateway.model import Bucket
from gateway.s3.exchange import Reply
from gateway.s3.numbered import KINDS
from gateway.s3.request import Request
from gateway.s3.settings import SETTINGS
from gateway.s3.subresources import BUCKET_PARAMETERS, OBJECT_PARAMETERS

# Resource names that are not the parameter in capitals.
_OF_BUCKETS = {
    "policy": "BUCKETPOLICY", "logging": "LOGGING_STATUS", "versions": "BUCKETVERSIONS",
    "delete": "MULTI_OBJECT_DELETE", "publicAccessBlock": "PUBLIC_ACCESS_BLOCK",
    "policyStatus": "POLICY_STATUS", "ownershipControls": "OWNERSHIP_CONTROLS",
    "object-lock": "OBJECT_LOCK_CONFIGURATION", "requestPayment": "REQUEST_PAYMENT",
}  # fmt: skip
_OF_OBJECTS = {
    "tagging": "OBJECT_TAGGING", "attributes": "OBJECT_ATTRIBUTES", "uploadId": "UPLOAD",
    "retention": "OBJECT_LOCK_RETENTION", "legal-hold": "OBJECT_LOCK_LEGALHOLD",
}  # fmt: skip
_BUCKET_PARAMETERS = BUCKET_PARAMETERS | SETTINGS.keys() | KINDS.keys()
_SECRET = frozenset(("X-Amz-Signature", "Signature", "X-Amz-Security-Token"))
_OPERATION, _SIZE, _VERSION = 6, 12, 17  # places of fields
_SAFE = "!#$&'()*+,/:;=?@[]~% "  # inside of quotation marks


class Served(msgspec.Struct, frozen=True):
    """How a request was served: its names; when it came and its reply went out, ns since 1970.

    `by_list`: no policy or ownership allowed it, but an access control list.
    """

    request_id: str
    host_id: str
    began_ns: int
    ended_ns: int
    by_list: bool = False


def access_lines(
    request: Request, reply: Reply, bucket: Bucket, requester: str, served: Served
) -> list[str]:
    """One request's line, without its end, and one for each object of a batch.

    `requester`: account or user; "" for nobody. A last field that AWS added, the region that a
    request came from, is left out: nobody knows it here, and readers of old count 26 fields.
    """
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in reply.headers}
    spent = str((served.ended_ns - served.began_ns) // 1_000_000)
    came = datetime.fromtimestamp(served.began_ns // 1_000_000_000, UTC)
    scheme, kind = _authentication(request)
    fields = [
        bucket.owner.id,
        bucket.name,
        f"[{came:%d/%b/%Y:%H:%M:%S} +0000]",
        request.client,
        requester,
        served.request_id,
        operation_of(request),
        quote(request.key, safe="/-_.~"),
        f'"{request.method} {_target(request)} HTTP/1.1"',
        str(reply.status),
        _error_code(reply),
        _sent(request, reply),
        _object_size(request, reply, headers),
        spent,
        spent,
        _quoted(request.headers.get("referer", "-")),
        _quoted(request.headers.get("user-agent", "-")),
        _word(headers.get("x-amz-version-id") or request.query.get("versionId", "")),
        served.host_id,
        scheme,
        "",  # the cipher suite: nobody tells it here
        kind,
        _word(request.headers.get("host", "")),
        "",  # the version of TLS
        "",  # an access point
        "Yes" if served.by_list else "",
    ]
    lines = [fields]
    for part in reply.parts:
        one = list(fields)
        one[_OPERATION : _SIZE + 1] = (
            "BATCH.DELETE.OBJECT", quote(part.key, safe="/-_.~"), "", str(part.status), part.error,
            "", "",
        )  # fmt: skip
        one[_VERSION] = _word(part.version_id)
        lines.append(one)
    return [" ".join(field or "-" for field in one) for one in lines]


def operation_of(request: Request) -> str:
    """REST.METHOD.RESOURCE, or WEBSITE.…, as AWS names what was asked for."""
    method = "COPY" if "x-amz-copy-source" in request.headers else request.method
    if method == "OPTIONS":
        return "REST.OPTIONS.PREFLIGHT"
    known = OBJECT_PARAMETERS if request.key else _BUCKET_PARAMETERS
    parameter = next((name for name in request.query if name in known), "")
    if not parameter or request.site:
        whole = request.key or method == "POST" or request.site
        resource = "OBJECT" if whole else "BUCKET"
    elif parameter == "uploadId" and "partNumber" in request.query:
        resource = "PART"
    else:
        names = _OF_OBJECTS if request.key else _OF_BUCKETS
        resource = names.get(parameter, parameter.upper().replace("-", "_"))
    return f"{'WEBSITE' if request.site else 'REST'}.{method}.{resource}"


def _authentication(request: Request) -> tuple[str, str]:
    """(SigV4 or SigV2, AuthHeader or QueryString)."""
    header = request.headers.get("authorization")
    if header is not None:
        return ("SigV4" if header.startswith("AWS4") else "SigV2"), "AuthHeader"
    if "X-Amz-Signature" in request.query:
        return "SigV4", "QueryString"
    return ("SigV2", "QueryString") if "Signature" in request.query else ("", "")


def _target(request: Request) -> str:
    """The request's target; what would let others use a signature is not kept."""
    path = request.raw_path.decode("latin-1")
    pairs = [
        quote(name, safe="") + ("=" if value or name in _SECRET else "")
        + ("Redacted" if name in _SECRET else quote(value, safe="/"))
        for name, value in request.pairs
    ]  # fmt: skip
    query = f"?{'&'.join(pairs)}" if pairs else ""
    return quote(path, safe=_SAFE).replace(" ", "%20") + query


def _quoted(text: str) -> str:
    return f'"{quote(text.encode("latin-1", "replace"), safe=_SAFE)}"'


def _word(text: str) -> str:
    return quote(text, safe="-_.~:[]")


def _error_code(reply: Reply) -> str:
    if reply.status < 400:
        return ""
    return bytes(reply.body).partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


def _sent(request: Request, reply: Reply) -> str:
    length = len(reply.body) if reply.length is None else reply.length
    return "" if request.method == "HEAD" or not length else str(length)


def _object_size(request: Request, reply: Reply, headers: Mapping[str, str]) -> str:
    if not request.key or reply.status >= 300:
        return ""
    if request.method in ("GET", "HEAD") and operation_of(request).endswith(".OBJECT"):
        length = len(reply.body) if reply.length is None else reply.length
        return headers.get("content-range", "").partition("/")[2] or str(length)
    given = request.headers
    sent = given.get("x-amz-decoded-content-length") or given.get("content-length", "")
    return sent if request.method == "PUT" and sent.isdigit() and sent != "0" else ""
