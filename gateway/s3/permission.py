"""What one request may do: the bucket's rules looked up, and the decision asked.

A bucket without policy and public access block costs nothing here: its row says so, and neither
rules are read nor a context is made.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import AccessDenied, NoSuchKey, NoSuchVersion, NotImplementedHere
from gateway.model import ACCESS_BLOCK, ACCESS_POLICY, Account, Bucket
from gateway.policy.actions import action_of, resource_of
from gateway.policy.document import (
    ANYBODY,
    MalformedPolicy,
    Policy,
    PolicyTooLarge,
    Statement,
    parse_policy,
)
from gateway.policy.evaluation import Asked
from gateway.policy.patterns import Context
from gateway.s3.access import Action, Decision, PublicAccessBlock, Rules, decide
from gateway.s3.addressing import parse_copy_source
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
_STORED_TAG = "s3:existingobjecttag/"
_GIVEN_TAG = "s3:requestobjecttag"

# What stands for a policy that cannot be read: its owner may still replace it.
_DENY_ALL = Policy(
    (Statement(False, frozenset({ANYBODY}), ("*",), ("*",), sid="unreadable policy"),)
)


@lru_cache(maxsize=256)
def kept_policy(document: bytes) -> Policy:
    """A stored policy; policies hardly ever change, and are asked at every request.

    One that this release does not understand (a later one stored it) denies everything.
    """
    try:
        return parse_policy(document)
    except (MalformedPolicy, PolicyTooLarge) as problem:
        log.warning("a stored policy cannot be read and denies everything: %s", problem)
        return _DENY_ALL


def rules_of(objects: "ObjectService", bucket: Bucket) -> Rules | None:
    """The rules of a bucket; None when it has none."""
    if not bucket.guarded:
        return None
    document = objects.setting(bucket, ACCESS_POLICY)
    block = objects.setting(bucket, ACCESS_BLOCK)
    return Rules(
        None if document is None else kept_policy(document),
        PublicAccessBlock() if block is None else msgspec.msgpack.decode(
            block, type=PublicAccessBlock
        ),
    )  # fmt: skip


class Permission:
    """One request's: made for each, and asked at least once."""

    __slots__ = ("_account", "_context", "_now", "_objects", "_request")

    def __init__(
        self, request: Request, account: Account | None, objects: "ObjectService", now: float
    ) -> None:
        self._request = request
        self._account = account
        self._objects = objects
        self._now = now
        self._context: dict[str, tuple[str, ...]] | None = None

    def check(
        self,
        action: Action,
        bucket: Bucket | None,
        operation: str,
        key: str = "",
        version_id: str | None = None,
    ) -> None:
        """Raises AccessDenied unless the caller may. `operation`: by S3's name."""
        decision = self.decide(action, bucket, operation, key, version_id)
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
    ) -> Decision:
        """The decision with its reason."""
        if bucket is None or not bucket.guarded:
            return decide(self._account, action, bucket)
        rules = rules_of(self._objects, bucket)
        policy = None if rules is None else rules.policy

        def asked() -> Asked:
            assert policy is not None
            return Asked(
                self._account.id if self._account else "",
                action_of(operation, versioned=version_id is not None),
                resource_of(bucket.name, key),
                self._asked_context(policy, bucket, key, version_id),
            )

        return decide(self._account, action, bucket, rules, asked)

    def hide_missing(self, bucket: Bucket) -> None:
        """Raises AccessDenied when the caller may not know which keys there are."""
        if bucket.guarded:
            self.check(Action.READ, bucket, "ListObjectsV2")

    def check_public_acl(self, bucket: Bucket) -> None:
        """Raises AccessDenied when the bucket blocks ACLs that would open it."""
        rules = rules_of(self._objects, bucket)
        if rules is not None and rules.block.block_public_acls:
            raise AccessDenied

    # ------------------------------------------------------------------ context
    def _asked_context(
        self, policy: Policy, bucket: Bucket, key: str, version_id: str | None
    ) -> Context:
        if self._context is None:
            self._context = request_context(self._request, self._account, self._now)
        context = self._context | {
            "aws:resourceaccount": (bucket.owner.id,),
            "s3:resourceaccount": (bucket.owner.id,),
        }
        if version_id is not None:
            context["s3:versionid"] = (version_id,)
        keys = {one.key for statement in policy.statements for one in statement.tests}
        if "tagging" in self._request.query and any(one.startswith(_GIVEN_TAG) for one in keys):
            # They come in the body, which nobody reads before the decision.
            raise NotImplementedHere("A policy with s3:RequestObjectTag on PutObjectTagging.")
        if key and any(one.startswith(_STORED_TAG) for one in keys):
            context |= self._stored_tags(bucket, key, version_id)
        return context

    def _stored_tags(self, bucket: Bucket, key: str, version_id: str | None) -> Context:
        try:
            version = self._objects.head(bucket, key, version_id)
        except (NoSuchKey, NoSuchVersion):
            return {}
        return _by_tag(_STORED_TAG, version.attributes.tags)


def request_context(
    request: Request, account: Account | None, now: float
) -> dict[str, tuple[str, ...]]:
    """Condition keys of a request by their lower-case names.

    Accounts are principals of their own; their display names are not unique, so aws:username is the
    account's id. The address is the peer's: a proxy before the gateway is what is seen.
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
        by_query = "authorization" not in headers
        single["s3:authtype"] = "REST-QUERY-STRING" if by_query else "REST-HEADER"
        newer = "X-Amz-Signature" in query or headers.get("authorization", "").startswith("AWS4")
        single["s3:signatureversion"] = "AWS4-HMAC-SHA256" if newer else "AWS"
    for header, key in (("user-agent", "aws:useragent"), ("referer", "aws:referer")):
        if header in headers:
            single[key] = headers[header]
    single |= {f"s3:{name}": headers[name] for name in _HEADERS if name in headers}
    if "x-amz-copy-source" in headers:
        source = parse_copy_source(headers["x-amz-copy-source"])
        single["s3:x-amz-copy-source"] = f"{source.bucket}/{source.key}"
    if not request.key:
        single |= {f"s3:{name}": query[name] for name in _LISTS if name in query}
    return {key: (value,) for key, value in single.items()} | _given_tags(headers)


def _given_tags(headers: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    if TAGGING not in headers:
        return {}
    tags = read_tags(headers)
    return _by_tag(f"{_GIVEN_TAG}/", tags) | {f"{_GIVEN_TAG}keys": tuple(tags)}


def _by_tag(prefix: str, tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Condition keys ignore case and tags do not: tags that only differ in it share a key."""
    context: dict[str, tuple[str, ...]] = {}
    for name, value in tags.items():
        key = prefix + name.lower()
        context[key] = (*context.get(key, ()), value)
    return context
