"""Headers that ask for what this release does not do. To ignore them would be to promise it."""

from collections.abc import Mapping

from gateway.errors import AccessDenied, InvalidArgument, NotImplementedHere
from gateway.model import Bucket
from gateway.s3.errors import AccessControlListNotSupported

_REFUSED_PREFIXES = (
    "x-amz-object-lock-",
    "x-amz-grant-",
)
_REFUSED = ("x-amz-write-offset-bytes", "x-amz-bucket-object-lock-enabled")
BUCKET_ACLS = {"private": False, "public-read": True}
_LATER_ACLS = ("public-read-write", "authenticated-read", "log-delivery-write", "aws-exec-read")
_OWNER_ACLS = ("private", "bucket-owner-full-control", "bucket-owner-read")


def refuse_unsupported(headers: Mapping[str, str]) -> None:
    """Raises NotImplementedHere."""
    for name, value in headers.items():
        if not name.startswith("x-amz-"):
            continue
        refused = name in _REFUSED or name.startswith(_REFUSED_PREFIXES)
        if refused and value and value.lower() != "false":
            raise NotImplementedHere(Header=name)


def canned_bucket_acl(headers: Mapping[str, str]) -> bool | None:
    """x-amz-acl of a bucket: public or not; None without one. Raises NotImplementedHere …"""
    name = headers.get("x-amz-acl")
    if name is None:
        return None
    if name in BUCKET_ACLS:
        return BUCKET_ACLS[name]
    raise _other_acl(name)


def check_object_acl(headers: Mapping[str, str], bucket: Bucket) -> None:
    """x-amz-acl of an object must say what its bucket's access says already.

    Raises AccessControlListNotSupported, NotImplementedHere, InvalidArgument.
    """
    name = headers.get("x-amz-acl")
    if name is None or name in _OWNER_ACLS:
        return
    if name == "public-read":
        if not bucket.public:
            raise AccessControlListNotSupported(
                "Objects take their bucket's access: make the bucket public-read instead."
            )
        return
    raise _other_acl(name)


def _other_acl(name: str) -> NotImplementedHere | InvalidArgument:
    if name in _LATER_ACLS:
        return NotImplementedHere(Header="x-amz-acl")
    return InvalidArgument(ArgumentName="x-amz-acl", ArgumentValue=name)


def check_expected_owner(headers: Mapping[str, str], bucket: Bucket, name: str) -> None:
    """x-amz-expected-bucket-owner and its like. Raises AccessDenied."""
    expected = headers.get(name)
    if expected is not None and expected != bucket.owner.id:
        raise AccessDenied
