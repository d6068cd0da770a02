"""From method, address and query to a typed operation. Pure; headers only tell copies apart."""

from collections.abc import Callable, Mapping

from gateway.errors import InvalidArgument, NotImplementedHere, PreconditionFailed
from gateway.s3 import operations as ops
from gateway.s3.errors import MethodNotAllowed
from gateway.s3.numbered import KINDS
from gateway.s3.operations import PAGE_MAX, Fixed, Operation
from gateway.s3.request import Request
from gateway.s3.settings import SETTINGS
from gateway.s3.subresources import (
    BUCKET_ANSWERS,
    BUCKET_PARAMETERS,
    OBJECT_ANSWERS,
    OBJECT_PARAMETERS,
    Answer,
)

# response-* parameter -> header of the reply
OVERRIDES = {
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-content-type": "content-type",
    "response-expires": "expires",
}
PART_MAX = 10_000
_BUCKET_PARAMETERS = BUCKET_PARAMETERS | SETTINGS.keys() | KINDS.keys()


def route(request: Request) -> Operation:
    """Parse once. Raises MethodNotAllowed, NotImplementedHere, InvalidArgument."""
    if not request.bucket:
        return _route_service(request)
    if request.method == "OPTIONS":
        return ops.Preflight(request.bucket)
    if not request.key:
        return _route_bucket(request)
    return _route_object(request)


# ------------------------------------------------------------------ parameters
def _integer(query: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    """A parameter that is a number from 0; larger ones count as `most`."""
    text = query.get(name, "")
    if not text:
        return default
    digits = text.isascii() and text.isdigit() and len(text) <= 20
    if not digits or int(text) > 0x7FFFFFFF:
        raise InvalidArgument(
            f"Provided {name} not an integer or within integer range",
            ArgumentName=name,
            ArgumentValue=text,
        )
    return min(int(text), most)


def _part_number(query: Mapping[str, str]) -> int:
    text = query.get("partNumber", "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= PART_MAX:
        raise InvalidArgument(
            "Part number must be an integer between 1 and 10000, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=text,
        )
    return number


def _url_encoded(query: Mapping[str, str]) -> bool:
    text = query.get("encoding-type")
    if text not in (None, "", "url"):
        raise InvalidArgument(
            "Invalid Encoding Method specified in Request",
            ArgumentName="encoding-type",
            ArgumentValue=text or "",
        )
    return text == "url"


def _subresource(query: Mapping[str, str], known: frozenset[str] | set[str]) -> str:
    if not query:
        return ""
    found = [name for name in query if name in known]
    if len(found) > 1:
        raise InvalidArgument(
            "Conflicting query string parameters: " + ", ".join(sorted(found)),
            ArgumentName="ResourceType",
            ArgumentValue=found[1],
        )
    return found[0] if found else ""


def _fixed(answer: Answer | None, request: Request) -> Fixed:
    if answer is None:
        raise MethodNotAllowed(Method=request.method)
    return Fixed(answer.name, request.bucket, answer.error, answer.status, answer.body, request.key)


# ------------------------------------------------------------------ service and buckets
def _route_service(request: Request) -> Operation:
    query = request.query
    match request.method:
        case "GET":
            return ops.ListBuckets(
                query.get("prefix", ""),
                query.get("continuation-token", ""),
                _integer(query, "max-buckets", 0, most=10_000),
            )
        case "POST":
            raise NotImplementedHere("The IAM and STS services are not implemented.")
        case _:
            raise MethodNotAllowed(Method=request.method)


def _route_bucket(request: Request) -> Operation:
    query, method = request.query, request.method
    parameter = _subresource(query, _BUCKET_PARAMETERS)
    if (method, parameter) == ("POST", ""):
        return _route_form(request)
    parse = _BUCKET_ROUTES.get((method, parameter))
    if parse is not None:
        return parse(request.bucket, query)
    if parameter in SETTINGS:
        return _route_setting(request, parameter)
    if parameter in KINDS:
        return _route_configuration(request, parameter)
    return _fixed(BUCKET_ANSWERS.get((method, parameter)), request)


def _route_form(request: Request) -> Operation:
    if "x-amz-request-route" in request.headers:
        raise NotImplementedHere("WriteGetObjectResponse is of S3 Object Lambda.")
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise PreconditionFailed(
            "Bucket POST must be of the enclosure-type multipart/form-data",
            Condition="Bucket POST must be of the enclosure-type multipart/form-data",
        )
    return ops.PostObject(request.bucket)


def _route_setting(request: Request, parameter: str) -> Operation:
    kind = _OF_SETTINGS.get(request.method)
    name = SETTINGS[parameter].operation(request.method)
    if kind is None or not name:
        raise MethodNotAllowed(Method=request.method)
    return kind(name, request.bucket, parameter)


def _route_configuration(request: Request, parameter: str) -> Operation:
    method, identifier = request.method, request.query.get("id")
    kind = _OF_CONFIGURATIONS.get(method)
    if kind is None:
        raise MethodNotAllowed(Method=method)
    name = KINDS[parameter].operation(method, named=identifier is not None)
    if identifier is None and method == "GET":
        token = request.query.get("continuation-token", "")
        return ops.ListConfigurations(name, request.bucket, parameter, token)
    return kind(name, request.bucket, parameter, identifier or "")


def _route_uploads(bucket: str, query: Mapping[str, str]) -> Operation:
    return ops.ListMultipartUploads(
        bucket,
        query.get("prefix", ""),
        query.get("delimiter", ""),
        query.get("key-marker", ""),
        query.get("upload-id-marker", ""),
        _integer(query, "max-uploads", PAGE_MAX, most=PAGE_MAX),
        _url_encoded(query),
    )


def _route_list(bucket: str, query: Mapping[str, str]) -> Operation:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    limit = _integer(query, "max-keys", PAGE_MAX, most=PAGE_MAX)
    encoded = _url_encoded(query)
    kind = query.get("list-type", "")
    if delimiter and query.get("allow-unordered", "") == "true":
        raise InvalidArgument(
            "Lists with a delimiter are in order.",
            ArgumentName="allow-unordered",
            ArgumentValue="true",
        )
    if not kind:
        return ops.ListObjects(bucket, prefix, delimiter, query.get("marker", ""), limit, encoded)
    if kind != "2":
        raise InvalidArgument(
            "Invalid list-type", ArgumentName="list-type", ArgumentValue=kind
        )  # fmt: skip
    return ops.ListObjectsV2(
        bucket,
        prefix,
        delimiter,
        query.get("start-after", ""),
        query.get("continuation-token"),
        limit,
        query.get("fetch-owner", "").lower() == "true",
        encoded,
    )


def _route_versions(bucket: str, query: Mapping[str, str]) -> Operation:
    return ops.ListObjectVersions(
        bucket,
        query.get("prefix", ""),
        query.get("delimiter", ""),
        query.get("key-marker", ""),
        query.get("version-id-marker", ""),
        _integer(query, "max-keys", PAGE_MAX, most=PAGE_MAX),
        _url_encoded(query),
    )


_OF_SETTINGS: dict[str, Callable[[str, str, str], Operation]] = {
    "PUT": ops.PutSetting,
    "GET": ops.GetSetting,
    "DELETE": ops.DeleteSetting,
}
_OF_CONFIGURATIONS: dict[str, Callable[[str, str, str, str], Operation]] = {
    "PUT": ops.PutConfiguration,
    "GET": ops.GetConfiguration,
    "DELETE": ops.DeleteConfiguration,
}
BucketRoute = Callable[[str, Mapping[str, str]], Operation]
_BUCKET_ROUTES: dict[tuple[str, str], BucketRoute] = {
    ("GET", ""): _route_list,
    ("PUT", ""): lambda bucket, _: ops.CreateBucket(bucket),
    ("HEAD", ""): lambda bucket, _: ops.HeadBucket(bucket),
    ("DELETE", ""): lambda bucket, _: ops.DeleteBucket(bucket),
    ("POST", "delete"): lambda bucket, _: ops.DeleteObjects(bucket),
    ("GET", "location"): lambda bucket, _: ops.GetBucketLocation(bucket),
    ("GET", "versioning"): lambda bucket, _: ops.GetBucketVersioning(bucket),
    ("PUT", "versioning"): lambda bucket, _: ops.PutBucketVersioning(bucket),
    ("GET", "acl"): lambda bucket, _: ops.GetBucketAcl(bucket),
    ("PUT", "acl"): lambda bucket, _: ops.PutBucketAcl(bucket),
    ("GET", "policyStatus"): lambda bucket, _: ops.GetBucketPolicyStatus(bucket),
    ("GET", "versions"): _route_versions,
    ("GET", "uploads"): _route_uploads,
}


# ------------------------------------------------------------------ objects
def _route_object(request: Request) -> Operation:
    query, method = request.query, request.method
    parameter = _subresource(query, OBJECT_PARAMETERS) if query else ""
    if parameter == "uploadId":
        return _route_upload(request)
    if not parameter and method in _PLAIN_ROUTES:
        return _PLAIN_ROUTES[method](request)
    if (method, parameter) == ("POST", "uploads"):
        return ops.CreateMultipartUpload(request.bucket, request.key)
    served = _OBJECT_ROUTES.get((method, parameter))
    if served is not None:
        return served(request.bucket, request.key, query.get("versionId"))
    return _fixed(OBJECT_ANSWERS.get((method, parameter)), request)


def _route_get(request: Request) -> Operation:
    query = request.query
    head = request.method == "HEAD"
    if not query:
        return ops.GetObject(request.bucket, request.key, head=head)
    return ops.GetObject(
        request.bucket,
        request.key,
        query.get("versionId"),
        _part_number(query) if "partNumber" in query else None,
        tuple((OVERRIDES[name], query[name]) for name in OVERRIDES if name in query),
        head,
    )


def _route_put(request: Request) -> Operation:
    if "partNumber" in request.query:
        raise InvalidArgument(
            "This operation does not accept partNumber without uploadId",
            ArgumentName="partNumber",
            ArgumentValue=request.query["partNumber"],
        )
    source = request.headers.get("x-amz-copy-source")
    if source is None:
        return ops.PutObject(request.bucket, request.key)
    return ops.CopyObject(request.bucket, request.key, source)


def _route_upload(request: Request) -> Operation:
    bucket, key, query = request.bucket, request.key, request.query
    upload_id = query["uploadId"]
    match request.method:
        case "PUT":
            number = _part_number(query)
            source = request.headers.get("x-amz-copy-source")
            if source is None:
                return ops.UploadPart(bucket, key, upload_id, number)
            return ops.UploadPartCopy(bucket, key, upload_id, number, source)
        case "GET":
            return ops.ListParts(
                bucket,
                key,
                upload_id,
                _integer(query, "part-number-marker", 0, most=PART_MAX),
                _integer(query, "max-parts", PAGE_MAX, most=PAGE_MAX),
                _url_encoded(query),
            )
        case "POST":
            return ops.CompleteMultipartUpload(bucket, key, upload_id)
        case "DELETE":
            return ops.AbortMultipartUpload(bucket, key, upload_id)
        case _:
            raise MethodNotAllowed(Method=request.method)


_PLAIN_ROUTES: dict[str, Callable[[Request], Operation]] = {
    "GET": _route_get,
    "HEAD": _route_get,
    "PUT": _route_put,
    "DELETE": lambda r: ops.DeleteObject(r.bucket, r.key, r.query.get("versionId")),
}
_OBJECT_ROUTES: dict[tuple[str, str], Callable[[str, str, str | None], Operation]] = {
    ("GET", "acl"): ops.GetObjectAcl,
    ("PUT", "acl"): ops.PutObjectAcl,
    ("GET", "tagging"): ops.GetObjectTagging,
    ("PUT", "tagging"): ops.PutObjectTagging,
    ("DELETE", "tagging"): ops.DeleteObjectTagging,
    ("GET", "retention"): ops.GetObjectRetention,
    ("PUT", "retention"): ops.PutObjectRetention,
    ("GET", "legal-hold"): ops.GetObjectLegalHold,
    ("PUT", "legal-hold"): ops.PutObjectLegalHold,
    ("GET", "attributes"): ops.GetObjectAttributes,
    ("PUT", "renameObject"): ops.RenameObject,
    ("PUT", "encryption"): ops.UpdateObjectEncryption,
}
