"""What one request may do: the bucket's rules looked up, and the decision asked.

An owner's request to a bucket without policy and public access block costs nothing here: the
bucket's row says so, and neither rules are read nor a context is made.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import (
    AccessDenied,
    InvalidArgument,
    MarkerNamed,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
)
from gateway.iam.identity import Identity
from gateway.kms import key_arn
from gateway.model import (
    ACCESS_ACL,
    ACCESS_BLOCK,
    ACCESS_OF_OTHERS,
    ACCESS_OWNERSHIP,
    ACCESS_PAYER,
    ACCESS_POLICY,
    SSE_S3,
    Account,
    Bucket,
    ObjectVersion,
    Upload,
)
from gateway.policy.actions import action_of, resource_of
from gateway.policy.document import Policy
from gateway.policy.evaluation import Asked
from gateway.policy.kept import kept_policy
from gateway.policy.patterns import Context
from gateway.s3.access import GRANTED, Action, Decision, PublicAccessBlock, Rules, decide
from gateway.s3.addressing import parse_copy_source
from gateway.s3.auth import Caller
from gateway.s3.grants import Acl, Ownership, unpack
from gateway.s3.lock_documents import PREFIX as LOCK_PREFIX
from gateway.s3.lock_documents import context_of as lock_context
from gateway.s3.request import Request
from gateway.s3.tags import HEADER as TAGGING
from gateway.s3.tags import read_tags

if TYPE_CHECKING:
    from gateway.objects import ObjectService

log = logging.getLogger(__name__)
_HEADERS = (
    "x-amz-acl", "x-amz-content-sha256", "x-amz-metadata-directive",
    "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class",
    "x-amz-website-redirect-location", "x-amz-grant-full-control", "x-amz-grant-read",
    "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp", "if-match",
    "if-none-match",
)  # fmt: skip
_LISTS = ("prefix", "delimiter", "max-keys")
_ENCRYPTION = "s3:x-amz-server-side-encryption"
_LOCK = "s3:object-lock-"
_STORED_TAG = "s3:existingobjecttag/"
_GIVEN_TAG = "s3:requestobjecttag"
# What parts have from their upload: its list and its encryption.
_OF_UPLOAD = ("s3:x-amz-acl", "s3:x-amz-grant-", _ENCRYPTION)
_PAYER, _REQUESTER = "x-amz-request-payer", "requester"


def rules_of(objects: "ObjectService", bucket: Bucket) -> Rules | None:
    """The rules of a bucket; None when it has none."""
    if bucket.settings.isdisjoint(ACCESS_OF_OTHERS):
        return None
    kept = objects.settings(bucket)
    policy, block = kept.get(ACCESS_POLICY), kept.get(ACCESS_BLOCK)
    acl = kept.get(ACCESS_ACL)
    return Rules(
        policy=None if policy is None else kept_policy(policy),
        block=PublicAccessBlock() if block is None else msgspec.msgpack.decode(
            block, type=PublicAccessBlock
        ),
        acl=None if acl is None else unpack(acl, bucket.owner.id),
        ownership=Ownership(kept.get(ACCESS_OWNERSHIP, b"ObjectWriter").decode()),
        requester_pays=kept.get(ACCESS_PAYER) == b"Requester",
    )  # fmt: skip


class Permission:
    """One request's: made for each, and asked at least once."""

    __slots__ = (
        "_account", "_context", "_identity", "_missing", "_now", "_objects", "_request", "by_list",
        "charged", "given_lock", "given_tags", "judged",
    )  # fmt: skip

    def __init__(
        self, request: Request, caller: Caller, objects: "ObjectService", now: float
    ) -> None:
        self._request = request
        self._account = caller.account
        self._identity = caller.identity
        self._objects = objects
        self._now = now
        self._context: dict[str, tuple[str, ...]] | None = None
        self.judged = False  # was it asked at all?
        self.by_list = False  # an access control list allowed it
        self.charged = False  # the caller pays for the request
        self._missing = ""  # the key that is not there, of which a list is asked for
        self.given_tags: Mapping[str, str] | None = None  # of a body that was read already
        self.given_lock: Mapping[str, str] | None = None  # the same, as headers of an upload

    @property
    def is_identity(self) -> bool:
        """Whether a user or session asks, and not an account itself."""
        return self._identity is not None

    def asks_policies(self, bucket: Bucket | None) -> bool:
        """Whether there is any policy to be asked; else an operation's name does not matter."""
        return self._identity is not None or (bucket is not None and bucket.guarded)

    def check(
        self,
        action: Action,
        bucket: Bucket | None,
        operation: str,
        key: str = "",
        version_id: str | None = None,
    ) -> None:
        """Raises AccessDenied unless the caller may. `operation`: by S3's name."""
        self._require(self.decide(action, bucket, operation, key, version_id), operation, key)

    @staticmethod
    def _require(decision: Decision, operation: str, key: str) -> None:
        if not decision.allowed:
            log.debug("%s of %s denied: %s", operation, key, decision.reason)
            raise AccessDenied

    def decide(
        self,
        action: Action,
        bucket: Bucket | None,
        operation: str,
        key: str = "",
        version_id: str | None = None,
        found: ObjectVersion | Upload | None = None,
    ) -> Decision:
        """The decision with its reason; `found` is what the key names, where it was read."""
        self.judged = True
        acl = None if found is None else _own_list(found)
        if self._identity is None:
            account = self._account
            if bucket is None:
                return decide(account, action, None)
            plain = acl is None and not bucket.guarded
            if plain and account is not None and account.id == bucket.owner.id:
                return decide(account, action, bucket)
        return self._by_rules(action, bucket, operation, key, version_id, found, acl)

    def _by_rules(  # noqa: PLR0917 - `decide` calls it, where rules or policies matter
        self,
        action: Action,
        bucket: Bucket | None,
        operation: str,
        key: str,
        version_id: str | None,
        found: ObjectVersion | Upload | None,
        acl: Acl | None,
    ) -> Decision:
        account, identity = self._account, self._identity
        rules = None if bucket is None else rules_of(self._objects, bucket)

        def asked() -> Asked:
            return Asked(
                account.id if account else "",
                action_of(operation, versioned=version_id is not None),
                resource_of(bucket.name if bucket else self._request.bucket or "*", key),
                self._asked_context(self._policies(rules), bucket, key, version_id, found),
                identity.arn if identity else "",
                identity.role if identity else "",
            )

        pays = self._request.headers.get(_PAYER) == _REQUESTER
        decision = decide(account, action, bucket, rules, asked, identity, found=acl, pays=pays)
        self.by_list |= decision is GRANTED
        if rules is not None and rules.requester_pays and bucket is not None:
            others = account is None or account.id != bucket.owner.id
            self.charged |= decision.allowed and others
        return decision

    def _policies(self, rules: Rules | None) -> Iterator[Policy]:
        if rules is not None and rules.policy is not None:
            yield rules.policy
        if self._identity is not None:
            yield from self._identity.policies
            for limit in self._identity.limits:
                yield from limit

    def version(
        self, bucket: Bucket, key: str, version_id: str | None, action: Action, operation: str
    ) -> ObjectVersion:
        """The latest or the named version, if the caller may do this with it.

        Raises NoSuchKey, NoSuchVersion; AccessDenied, also where a caller who may not list would
        hear that there is nothing.
        """
        try:
            version = self._objects.head(bucket, key, version_id)
        except (NoSuchKey, NoSuchVersion, MarkerNamed):
            if self.decide(action, bucket, operation, key, version_id).explicit:
                raise AccessDenied from None
            self.hide_missing(bucket, key)
            raise
        decision = self.decide(action, bucket, operation, key, version_id, version)
        self._require(decision, operation, key)
        return version

    def hide_missing(self, bucket: Bucket, key: str) -> None:
        """Raises AccessDenied when the caller may not know which keys there are.

        That is a question of a list of that key alone: for a policy, s3:prefix is the key.
        """
        self._missing = key
        self.check(Action.LIST, bucket, "ListObjectsV2")

    # ------------------------------------------------------------------ context
    def _asked_context(
        self,
        policies: Iterable[Policy],
        bucket: Bucket | None,
        key: str,
        version_id: str | None,
        found: ObjectVersion | Upload | None,
    ) -> Context:
        if self._context is None:
            self._context = request_context(self._request, self._account, self._now, self._identity)
        owner = self._account if bucket is None else bucket.owner
        assert owner is not None  # nobody asks policies of no bucket
        context = self._context | {
            "aws:resourceaccount": (owner.id,),
            "s3:resourceaccount": (owner.id,),
        }
        if self._missing:
            context["s3:prefix"] = (self._missing,)
        if version_id is not None:
            context["s3:versionid"] = (version_id,)
        names = _keys_of(policies)
        if self.given_tags is not None:
            context |= _of_given_tags(self.given_tags)
        if self.given_lock is not None:
            lock = lock_context(self.given_lock, self._now)
            context |= {name: (value,) for name, value in lock.items()}
        if bucket is None or not key:
            return context
        if "uploadId" in self._request.query and any(n.startswith(_OF_UPLOAD) for n in names):
            context |= self._of_upload(bucket, key, found)
        if any(name.startswith(_STORED_TAG) for name in names):
            context |= self._stored_tags(bucket, key, version_id, found)
        return context

    def asks_given_tags(self, bucket: Bucket) -> bool:
        """Whether a policy asks for the tags that a request brings."""
        return self._asks(bucket, _GIVEN_TAG)

    def asks_given_lock(self, bucket: Bucket) -> bool:
        """Whether a policy asks for the retention or hold that a request brings."""
        return self._asks(bucket, _LOCK)

    def _asks(self, bucket: Bucket, prefix: str) -> bool:
        if not self.asks_policies(bucket):
            return False
        names = _keys_of(self._policies(rules_of(self._objects, bucket)))
        return any(name.startswith(prefix) for name in names)

    def _stored_tags(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None,
        found: ObjectVersion | Upload | None,
    ) -> Context:
        try:
            if not isinstance(found, ObjectVersion):
                found = self._objects.head(bucket, key, version_id)
        except (NoSuchKey, NoSuchVersion, MarkerNamed, InvalidArgument):
            return {}
        return _by_tag(_STORED_TAG, found.attributes.tags)

    def _of_upload(self, bucket: Bucket, key: str, found: ObjectVersion | Upload | None) -> Context:
        """What an upload began with, which takes effect for its parts whatever they say."""
        try:
            if not isinstance(found, Upload):
                found = self._objects.upload(bucket, key, self._request.query["uploadId"])
        except NoSuchUpload:
            return {}
        own = _own_list(found)
        context = {} if own is None else {f"s3:{n}": (value,) for n, value in own.given.items()}
        encryption = found.attributes.encryption
        if encryption is None:
            return context
        if encryption.customer:
            context[f"{_ENCRYPTION}-customer-algorithm"] = (SSE_S3,)
            return context
        context[_ENCRYPTION] = (encryption.algorithm,)
        if encryption.key:
            context[f"{_ENCRYPTION}-aws-kms-key-id"] = (key_arn(bucket, encryption.key),)
        return context


def _own_list(found: ObjectVersion | Upload) -> Acl | None:
    """The list of what was found, where it is not private and the bucket owner's."""
    extra = found.attributes.extra
    if extra is None or not extra.acl:
        return None
    return unpack(extra.acl, found.bucket.owner.id)


def _keys_of(policies: Iterable[Policy]) -> set[str]:
    """The condition keys that policies name."""
    return {
        test.key
        for policy in policies
        for statement in policy.statements
        for test in statement.tests
    }


def request_context(
    request: Request, account: Account | None, now: float, identity: Identity | None = None
) -> dict[str, tuple[str, ...]]:
    """Condition keys of a request by their lower-case names.

    Accounts are principals of their own; their display names are not unique, so aws:username is the
    account's id (for a user, the user's name). The address is the peer's: a proxy before the
    gateway is what is seen.
    """
    headers, query = request.headers, request.query
    single = {
        "aws:currenttime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(int(now)),
        "aws:securetransport": "true" if request.secure else "false",
        "aws:principaltype": "Anonymous" if account is None else "Account",
        "aws:userid": "anonymous" if account is None else account.id,
    }
    if request.client:
        single["aws:sourceip"] = request.client
    if account is not None:
        single["aws:username"] = single["aws:principalaccount"] = account.id
        single["aws:principalarn"] = f"arn:aws:iam::{account.id}:root"
        if identity is not None:
            single |= identity_context(identity)
            if not identity.name:
                del single["aws:username"]
        by_query = "authorization" not in headers
        single["s3:authtype"] = "REST-QUERY-STRING" if by_query else "REST-HEADER"
        newer = "X-Amz-Signature" in query or headers.get("authorization", "").startswith("AWS4")
        single["s3:signatureversion"] = "AWS4-HMAC-SHA256" if newer else "AWS"
    for header, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
        if header in headers:
            single[key] = headers[header]
    single |= {f"s3:{name}": headers[name] for name in _HEADERS if name in headers}
    if any(name.startswith(LOCK_PREFIX) for name in headers):
        single |= lock_context(headers, now)
    if "x-amz-copy-source" in headers:
        source = parse_copy_source(headers["x-amz-copy-source"])
        single["s3:x-amz-copy-source"] = f"{source.bucket}/{source.key}"
    if not request.key:
        single |= {f"s3:{name}": query[name] for name in _LISTS if name in query}
    return {key: (value,) for key, value in single.items()} | _given_tags(headers)


def identity_context(identity: Identity) -> dict[str, str]:
    """Condition keys of who acts for an account."""
    keys = {
        "aws:principalarn": identity.principal,
        "aws:principaltype": identity.kind,
        "aws:userid": identity.id,
        "aws:username": identity.name,
    }
    if identity.issued:
        issued = datetime.fromtimestamp(identity.issued, UTC)
        keys["aws:tokenissuetime"] = issued.strftime("%Y-%m-%dT%H:%M:%SZ")
        keys["aws:multifactorauthpresent"] = "false"
    return keys | {f"aws:principaltag/{n.lower()}": v for n, v in identity.tags.items()}


def _given_tags(headers: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    if TAGGING not in headers:
        return {}
    return _of_given_tags(read_tags(headers))


def _of_given_tags(tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return _by_tag(f"{_GIVEN_TAG}/", tags) | {f"{_GIVEN_TAG}keys": tuple(tags)}


def _by_tag(prefix: str, tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Condition keys ignore case and tags do not: tags that only differ in it share a key."""
    context: dict[str, tuple[str, ...]] = {}
    for name, value in tags.items():
        key = prefix + name.lower()
        context[key] = (*context.get(key, ()), value)
    return context
