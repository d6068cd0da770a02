"""Access control lists as requests give them and replies show them, and their operations.

A list comes by one way only: a canned name, x-amz-grant- headers, or a document.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element

from msgspec.structs import replace

from gateway.errors import AccessDenied, InvalidArgument, InvalidRequest
from gateway.model import (
    ACCESS_ACL,
    CLASSED,
    FOREIGN,
    Account,
    Attributes,
    Bucket,
    Extra,
    ObjectVersion,
    Upload,
)
from gateway.records import STORAGE_CLASS
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import Action, Rules
from gateway.s3.attributes import version_headers
from gateway.s3.errors import (
    AccessControlListNotSupported,
    AmbiguousGrantByEmailAddress,
    MalformedACL,
    MalformedXML,
    MissingSecurityHeader,
    UnexpectedContent,
    UnresolvableGrantByEmailAddress,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.grants import (
    GRANTS_MAX,
    Acl,
    Grant,
    Ownership,
    Right,
    canned,
    group_of,
    in_order,
    is_public_acl,
    pack,
    private,
    unpack,
    uri_of,
)
from gateway.s3.permission import rules_of
from gateway.s3.xml_requests import child_text, parse_document

if TYPE_CHECKING:
    from gateway.objects import ObjectService

DOCUMENT_MAX = 64 * 1024
_CANNED = "x-amz-acl"
_HEADERS = {
    "x-amz-grant-read": Right.READ,
    "x-amz-grant-write": Right.WRITE,
    "x-amz-grant-read-acp": Right.READ_ACP,
    "x-amz-grant-write-acp": Right.WRITE_ACP,
    "x-amz-grant-full-control": Right.FULL_CONTROL,
}
GIVEN = (_CANNED, *_HEADERS)
_GIVEN = frozenset(GIVEN)
_GRANTEE = re.compile(
    r"\s*(id|uri|emailaddress)\s*=\s*(?:\"([^\"]*)\"|([^\s\",]+))\s*(?:,|$)", re.IGNORECASE
)
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_ELEMENTS = {
    "CanonicalUser": ("id", "ID"),
    "Group": ("uri", "URI"),
    "AmazonCustomerByEmail": ("emailaddress", "EmailAddress"),
}


class Named(NamedTuple):
    """A grant as a request names it: the kind is id, uri or emailaddress."""

    right: Right
    kind: str
    value: str


# ------------------------------------------------------------------ parsing
def parse_grant_headers(headers: Mapping[str, str]) -> list[Named]:
    """x-amz-grant-*. Raises InvalidArgument."""
    found = []
    for header, right in _HEADERS.items():
        text = headers.get(header)
        if text is None:
            continue
        at = 0
        while at < len(text):
            match = _GRANTEE.match(text, at)
            if match is None:
                raise InvalidArgument(
                    "Argument format not recognized", ArgumentName=header, ArgumentValue=text[:256]
                )
            found.append(Named(right, match[1].lower(), match[2] or match[3] or ""))
            at = match.end()
    return found


def parse_acl(data: bytes) -> tuple[str, list[Named]]:
    """(owner's id, grants) of an AccessControlPolicy. Raises MalformedACL."""
    try:
        tree = parse_document(data, "AccessControlPolicy")
    except MalformedXML:
        raise MalformedACL from None
    owner, grants = tree.find("Owner"), tree.find("AccessControlList")
    if owner is None or grants is None:
        raise MalformedACL
    found = [_named(grant) for grant in grants.findall("Grant")]
    if len(found) != len(grants):
        raise MalformedACL
    return (child_text(owner, "ID") or "").strip(), found


def _named(grant: Element) -> Named:
    grantee = grant.find("Grantee")
    right = (child_text(grant, "Permission") or "").strip()
    if grantee is None or right not in Right.__members__:
        raise MalformedACL
    kind, element = _ELEMENTS.get(grantee.get(f"{_XSI}}}type", ""), ("", ""))
    value = child_text(grantee, element) if element else None
    if value is None:
        raise MalformedACL
    return Named(Right[right], kind, value.strip())


def resolve(objects: "ObjectService", named: Iterable[Named]) -> tuple[Grant, ...]:
    """Grants to accounts and groups that there are, each once.

    Raises MalformedACL (more than 100), InvalidArgument, UnresolvableGrantByEmailAddress …
    """
    named = list(dict.fromkeys(named))
    if len(named) > GRANTS_MAX:
        raise MalformedACL(f"A list has at most {GRANTS_MAX} grants.")
    known = objects.accounts({one.value for one in named if one.kind == "id"})
    emails = {one.value for one in named if one.kind == "emailaddress"}
    by_email = objects.accounts_with_emails(emails) if emails else {}
    return tuple(dict.fromkeys(_grant(one, known, by_email) for one in named))


def _grant(
    one: Named, known: Mapping[str, Account], by_email: Mapping[str, list[Account]]
) -> Grant:
    if one.kind == "uri":
        group = group_of(one.value)
        if group is None:
            raise InvalidArgument(
                "Invalid group uri", ArgumentName="uri", ArgumentValue=one.value[:256]
            )
        return Grant(one.right, group=group)
    if one.kind == "id":
        if one.value not in known:
            raise InvalidArgument(
                "Invalid id", ArgumentName="CanonicalUser/ID", ArgumentValue=one.value[:256]
            )
        return Grant(one.right, one.value)
    found = by_email[one.value.lower()] if one.value else []
    if len(found) != 1:
        raise AmbiguousGrantByEmailAddress if found else UnresolvableGrantByEmailAddress
    return Grant(one.right, found[0].id)


def from_headers(
    exchange: Exchange, owner: str, bucket_owner: str, *, of_bucket: bool
) -> Acl | None:
    """The list that a request's headers give; None without any.

    Raises InvalidRequest for both a canned name and grants, and what `canned` and `resolve` raise.
    """
    headers = exchange.request.headers
    name = headers.get(_CANNED)
    granted = any(header in headers for header in _HEADERS)
    if name is not None:
        if granted:
            raise InvalidRequest("Specifying both Canned ACLs and Header Grants is not allowed")
        return Acl(owner, canned(name, owner, bucket_owner, of_bucket=of_bucket))
    if granted:
        return Acl(owner, resolve(exchange.objects, parse_grant_headers(headers)))
    return None


# ------------------------------------------------------------------ what is written
async def owned(exchange: Exchange, attributes: Attributes, *, upload: bool = False) -> Attributes:
    """`attributes` of a new object (or upload) with its owner and list, as its bucket wants it.

    Raises AccessControlListNotSupported, AccessDenied (a public list where none may be), and what
    `from_headers` raises.
    """
    bucket, caller, headers = exchange.bucket, exchange.caller.account, exchange.request.headers
    if STORAGE_CLASS in attributes.headers and CLASSED not in bucket.settings:
        await exchange.objects.set_setting(bucket, CLASSED, b"\x01")
    none_given = _GIVEN.isdisjoint(headers)
    # What nobody signed for is the bucket's owner's: nobody else could change it.
    writer = bucket.owner.id if caller is None else caller.id
    if none_given and writer == bucket.owner.id:
        return attributes
    given = {name: headers[name] for name in GIVEN if name in headers}
    rules = rules_of(exchange.objects, bucket) or Rules()
    full = headers.get(_CANNED) == "bucket-owner-full-control"
    if rules.ownership is Ownership.ENFORCED:
        if given and not full:
            raise AccessControlListNotSupported
        owner, acl = bucket.owner.id, private(bucket.owner.id)
    else:
        to_bucket = full and rules.ownership is Ownership.PREFERRED
        owner = bucket.owner.id if to_bucket else writer
        made = from_headers(exchange, owner, bucket.owner.id, of_bucket=False)
        acl = private(owner) if made is None else made
    check_public(rules, acl)
    if upload:
        acl = replace(acl, initiator="" if writer == owner else writer, given=given)
    if writer != bucket.owner.id and FOREIGN not in bucket.settings:
        await exchange.objects.set_setting(bucket, FOREIGN, b"\x01")
    return with_acl(attributes, pack(acl, bucket.owner.id))


def with_acl(attributes: Attributes, packed: bytes) -> Attributes:
    """`attributes` with another list."""
    if attributes.extra is None and not packed:
        return attributes
    return replace(attributes, extra=replace(attributes.extra or Extra(), acl=packed))


def check_public(rules: Rules, acl: Acl) -> None:
    """Raises AccessDenied for a public list in a bucket that blocks these."""
    if rules.block.block_public_acls and is_public_acl(acl):
        raise AccessDenied


def acl_of(bucket: Bucket, attributes: Attributes) -> Acl:
    """The list of a stored object or upload."""
    extra = attributes.extra
    return unpack(b"" if extra is None else extra.acl, bucket.owner.id)


def ids_of(*uploads: Upload) -> set[str]:
    """Whom uploads are shown with, but their bucket's owner."""
    lists = [
        acl_of(upload.bucket, upload.attributes) for upload in uploads if upload.attributes.extra
    ]
    return {one for acl in lists for one in (acl.owner, acl.initiator) if one}


def upload_owner(upload: Upload, accounts: Mapping[str, Account]) -> str:
    """The elements of who began an upload and whose its object will be."""
    acl = acl_of(upload.bucket, upload.attributes)
    known = {upload.bucket.owner.id: upload.bucket.owner, **accounts}
    owner, initiator = (
        known.get(one, Account(one, "")) for one in (acl.owner, acl.initiator or acl.owner)
    )
    return f"{xml.owner(initiator, 'Initiator')}{xml.owner(owner)}"


def owners_of(exchange: Exchange, versions: Iterable[ObjectVersion]) -> dict[bytes, Account]:
    """The owners of a page's versions that are not the bucket owner's, by the versions' uids."""
    if FOREIGN not in exchange.bucket.settings:
        return {}
    owners = {one.uid: acl_of(one.bucket, one.attributes).owner for one in versions}
    accounts = exchange.objects.accounts(set(owners.values()))
    return {uid: accounts.get(owner, Account(owner, "")) for uid, owner in owners.items()}


# ------------------------------------------------------------------ documents
def acl_document(acl: Acl, accounts: Mapping[str, Account]) -> bytes:
    """An AccessControlPolicy; `accounts` are those that it names, as far as there are any."""
    rows = "".join(_grant_element(grant, accounts) for grant in in_order(acl.grants))
    owner = accounts.get(acl.owner, Account(acl.owner, ""))
    return xml.document(
        "AccessControlPolicy",
        f"{xml.owner(owner)}<AccessControlList>{rows}</AccessControlList>",
    )


def _grant_element(grant: Grant, accounts: Mapping[str, Account]) -> str:
    if grant.group:
        kind, who = "Group", f"<URI>{uri_of(grant.group)}</URI>"
    else:
        name = accounts[grant.account].name if grant.account in accounts else ""
        kind = "CanonicalUser"
        who = f"<ID>{xml.escape(grant.account)}</ID><DisplayName>{xml.escape(name)}</DisplayName>"
    return (
        f'<Grant><Grantee xmlns:xsi="{_XSI}" xsi:type="{kind}">{who}</Grantee>'
        f"<Permission>{grant.right.name}</Permission></Grant>"
    )


def _shown(exchange: Exchange, acl: Acl, rules: Rules | None) -> bytes:
    bucket = exchange.bucket
    if rules is not None and rules.ownership is Ownership.ENFORCED:
        acl = private(bucket.owner.id)
    ids = {acl.owner, *(grant.account for grant in acl.grants if grant.account)}
    return acl_document(acl, exchange.objects.accounts(ids))


# ------------------------------------------------------------------ operations
async def get_bucket_acl(exchange: Exchange, operation: ops.GetBucketAcl) -> Reply:
    """The bucket's list; a bucket that was opened as a whole shows everybody's read, too."""
    del operation
    bucket, rules = exchange.bucket, rules_of(exchange.objects, exchange.bucket)
    acl = bucket_acl(bucket, rules)
    everybody = Grant(Right.READ, group="AllUsers")
    if bucket.public and everybody not in acl.grants:
        acl = replace(acl, grants=(*acl.grants, everybody))
    return xml_reply(_shown(exchange, acl, rules))


def bucket_acl(bucket: Bucket, rules: Rules | None) -> Acl:
    """A bucket's list, private without one of its own."""
    kept = None if rules is None else rules.acl
    return private(bucket.owner.id) if kept is None else kept


async def put_bucket_acl(exchange: Exchange, operation: ops.PutBucketAcl) -> Reply:
    """Replace the list. Whatever it says, the bucket is no longer open as a whole."""
    bucket = exchange.bucket
    acl = await _given(exchange, bucket_acl(bucket, rules_of(exchange.objects, bucket)).owner)
    if bucket.public:
        await exchange.objects.configure_bucket(operation.bucket, public=False)
    packed = pack(acl, bucket.owner.id)
    if packed or ACCESS_ACL in bucket.settings:
        await exchange.objects.set_setting(bucket, ACCESS_ACL, packed or None)
    return Reply(200)


async def get_object_acl(exchange: Exchange, operation: ops.GetObjectAcl) -> Reply:
    """A version's list."""
    version = exchange.version(
        operation.key, operation.version_id, Action.READ_OBJECT_ACL, "GetObjectAcl"
    )
    acl = acl_of(exchange.bucket, version.attributes)
    rules = rules_of(exchange.objects, exchange.bucket)
    return xml_reply(_shown(exchange, acl, rules), version_headers(version))


async def put_object_acl(exchange: Exchange, operation: ops.PutObjectAcl) -> Reply:
    """Replace a version's list; its owner stays."""
    bucket = exchange.bucket
    version = exchange.version(
        operation.key, operation.version_id, Action.WRITE_OBJECT_ACL, "PutObjectAcl"
    )
    acl = await _given(exchange, acl_of(bucket, version.attributes).owner)
    packed = pack(acl, bucket.owner.id)
    version = await exchange.objects.amend(
        bucket,
        operation.key,
        operation.version_id,
        lambda attributes: with_acl(attributes, packed),
    )
    return Reply(200, version_headers(version))


async def _given(exchange: Exchange, owner: str) -> Acl:
    """The list that a PUT of one gives: its headers or its document.

    Raises AccessControlListNotSupported, UnexpectedContent for both, MissingSecurityHeader for
    neither, AccessDenied for another owner.
    """
    bucket = exchange.bucket
    rules = rules_of(exchange.objects, bucket) or Rules()
    if rules.ownership is Ownership.ENFORCED:
        raise AccessControlListNotSupported
    of_bucket = not exchange.request.key
    acl = from_headers(exchange, owner, bucket.owner.id, of_bucket=of_bucket)
    data = await exchange.document(DOCUMENT_MAX, required=False)
    if acl is None:
        if not data:
            raise MissingSecurityHeader(MissingHeaderName=_CANNED)
        named_owner, named = parse_acl(data)
        if named_owner != owner:
            raise AccessDenied
        acl = Acl(owner, resolve(exchange.objects, named))
    elif data:
        raise UnexpectedContent
    check_public(rules, acl)
    return acl
