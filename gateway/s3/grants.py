"""Access control lists as values: who was granted what, and whether that is enough. Pure.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
"""

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from functools import lru_cache

import msgspec

from gateway.errors import InvalidArgument, NotImplementedHere

GRANTS_MAX = 100  # of one list, as on AWS


class Right(IntEnum):
    """A permission of S3's; a right is enough for another if it has all of its bits."""

    READ = 1
    WRITE = 2
    READ_ACP = 4
    WRITE_ACP = 8
    FULL_CONTROL = 15


class Group(StrEnum):
    """Who has no account of its own; named as the last part of its URI."""

    ALL = "AllUsers"
    AUTHENTICATED = "AuthenticatedUsers"
    LOGS = "LogDelivery"


class Ownership(StrEnum):
    """Whose an object is that another account writes: x-amz-object-ownership."""

    WRITER = "ObjectWriter"
    PREFERRED = "BucketOwnerPreferred"
    ENFORCED = "BucketOwnerEnforced"


_URIS = {
    Group.ALL: "http://acs.amazonaws.com/groups/global/AllUsers",
    Group.AUTHENTICATED: "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
    Group.LOGS: "http://acs.amazonaws.com/groups/s3/LogDelivery",
}
_GROUPS = {uri: group for group, uri in _URIS.items()}
_PUBLIC = frozenset({"AllUsers", "AuthenticatedUsers"})


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """One right, of an account by its id or of a group by its name."""

    right: Right
    account: str = ""
    group: str = ""


class Acl(msgspec.Struct, frozen=True, array_like=True):
    """Whose something is, and who else was granted what. Kept as MessagePack."""

    owner: str
    grants: tuple[Grant, ...]
    # Of an upload: who began it, and the headers that its ACL was given by.
    initiator: str = ""
    given: dict[str, str] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Acl).decode


def private(owner: str) -> Acl:
    """What has no list of its own."""
    return Acl(owner, (Grant(Right.FULL_CONTROL, owner),))


def pack(acl: Acl, bucket_owner: str) -> bytes:
    """As it is stored: nothing for what is its bucket's owner's and private."""
    return b"" if acl == private(bucket_owner) else _encode(acl)


@lru_cache(maxsize=1024)
def unpack(stored: bytes, bucket_owner: str) -> Acl:
    """The inverse of `pack`."""
    return _decode(stored) if stored else private(bucket_owner)


def uri_of(group: str) -> str:
    """A group's URI."""
    return _URIS[Group(group)]


def group_of(uri: str) -> Group | None:
    """The group of a URI; None if there is none."""
    return _GROUPS.get(uri)


# ------------------------------------------------------------------ questions
def grants_right(acl: Acl, caller: str, right: Right, *, ignore_public: bool = False) -> bool:
    """Whether `caller` (an account's id, "" for anonymous) has a right by the list or as owner.

    `ignore_public`: grants to everybody and to all accounts count for nothing.
    """
    if caller and caller == acl.owner and right in (Right.READ_ACP, Right.WRITE_ACP):
        return True
    return any(
        grant.right & right == right and _covers(grant, caller, ignore_public=ignore_public)
        for grant in acl.grants
    )


def _covers(grant: Grant, caller: str, *, ignore_public: bool) -> bool:
    if grant.account:
        return grant.account == caller
    if ignore_public:
        return False
    return grant.group == Group.ALL or (grant.group == Group.AUTHENTICATED and bool(caller))


def is_public_acl(acl: Acl) -> bool:
    """Whether a list grants anything to everybody or to all accounts."""
    return any(grant.group in _PUBLIC for grant in acl.grants)


def reaches_others(acl: Acl, owner: str) -> bool:
    """Whether a list grants anything to anybody but `owner`."""
    return any(grant.account != owner for grant in acl.grants)


def in_order(grants: Iterable[Grant]) -> list[Grant]:
    """As they are shown: groups first, else as they were given."""
    return sorted(grants, key=lambda grant: not grant.group)


# ------------------------------------------------------------------ canned lists
_CANNED = {
    "private": (),
    "public-read": (Grant(Right.READ, group=Group.ALL),),
    "public-read-write": (
        Grant(Right.READ, group=Group.ALL), Grant(Right.WRITE, group=Group.ALL),
    ),
    "authenticated-read": (Grant(Right.READ, group=Group.AUTHENTICATED),),
    "log-delivery-write": (
        Grant(Right.WRITE, group=Group.LOGS), Grant(Right.READ_ACP, group=Group.LOGS),
    ),
}  # fmt: skip
_TO_BUCKET_OWNER = {
    "bucket-owner-read": Right.READ,
    "bucket-owner-full-control": Right.FULL_CONTROL,
}


def canned(name: str, owner: str, bucket_owner: str, *, of_bucket: bool) -> tuple[Grant, ...]:
    """The grants of a canned list. Raises InvalidArgument, NotImplementedHere."""
    own = (Grant(Right.FULL_CONTROL, owner),)
    if name in _TO_BUCKET_OWNER:
        # Of a bucket they say nothing new, and AWS takes them for private.
        more = owner != bucket_owner
        return (*own, Grant(_TO_BUCKET_OWNER[name], bucket_owner)) if more else own
    if name in _CANNED and (of_bucket or name != "log-delivery-write"):
        return own + _CANNED[name]
    if name == "aws-exec-read":
        raise NotImplementedHere("There is no EC2 that aws-exec-read could mean.")
    raise InvalidArgument(ArgumentName="x-amz-acl", ArgumentValue=name)
