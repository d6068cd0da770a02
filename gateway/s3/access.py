"""Who may do what: one pure decision.

A policy's explicit deny goes before everything, also for the owner. Then: an account may do
everything with its own buckets; a policy may allow others; a public bucket may be read and listed
by anybody. Everything else is denied. docs/adr/150-one-decision.md
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from gateway.model import Account, Bucket
from gateway.policy.document import Policy
from gateway.policy.evaluation import Asked, Effect, evaluate, is_public


class Action(Enum):
    """What an operation does to what it names."""

    SERVICE = auto()  # the caller's own account: ListBuckets, CreateBucket
    READ = auto()  # objects, their metadata, and lists of them
    WRITE = auto()  # objects and uploads, and lists of uploads
    CONFIGURE = auto()  # the bucket itself, its settings and their values
    PREFLIGHT = auto()  # a browser's question whether its page may ask


class PublicAccessBlock(msgspec.Struct, frozen=True, array_like=True):
    """What a bucket refuses whatever its ACL or policy says. Kept as MessagePack."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False


class Rules(msgspec.Struct, frozen=True):
    """What a guarded bucket has beside its ACL."""

    policy: Policy | None = None
    block: PublicAccessBlock = PublicAccessBlock()


class Decision(NamedTuple):
    """Whether, and why: for the log, never for the caller."""

    allowed: bool
    reason: str


_OWNER = Decision(True, "the bucket's owner")
_PUBLIC = Decision(True, "the bucket is public")
_SERVICE = Decision(True, "an account's own service")
_PREFLIGHT = Decision(True, "preflights are answered to anybody")
_NOTHING = Decision(False, "nothing allows it")
_RESTRICTED = Decision(False, "the public access block restricts a public policy to the owner")
# An owner is never locked out of the policy itself.
_NEVER_LOCKED = frozenset({"s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"})
# For the owner's account alone, whatever a policy allows: who may change the rules has everything.
_OWNERS = _NEVER_LOCKED | {
    "s3:GetBucketPolicyStatus",
    "s3:GetBucketPublicAccessBlock",
    "s3:PutBucketPublicAccessBlock",
}


def decide(
    caller: Account | None,
    action: Action,
    bucket: Bucket | None,
    rules: Rules | None = None,
    asked: Callable[[], Asked] | None = None,
) -> Decision:
    """Whether `caller` (None: anonymous) may do `action` on `bucket` (None: the service).

    `rules` are those of a guarded bucket. `asked` makes what its policy is asked: it is only called
    when there is one.
    """
    if bucket is None:
        return _SERVICE if caller is not None and action is Action.SERVICE else _NOTHING
    if action is Action.PREFLIGHT:
        return _PREFLIGHT
    owner = caller is not None and caller.id == bucket.owner.id
    if rules is None:
        if owner:
            return _OWNER
        return _PUBLIC if bucket.public and action is Action.READ else _NOTHING
    assert asked is not None
    return _by_rules(rules, asked, bucket, action, owner=owner)


def _by_rules(
    rules: Rules, asked: Callable[[], Asked], bucket: Bucket, action: Action, *, owner: bool
) -> Decision:
    allow = None
    if rules.policy is not None:
        question = asked()
        verdict = evaluate(rules.policy, question)
        if verdict.effect is Effect.DENY and not (owner and question.action in _NEVER_LOCKED):
            return Decision(False, f"statement {verdict.statement} denies it")
        if verdict.effect is Effect.ALLOW and question.action not in _OWNERS:
            allow = Decision(True, f"statement {verdict.statement} allows it")
    if owner:
        return _OWNER
    if rules.policy and rules.block.restrict_public_buckets and is_public(rules.policy):
        return _RESTRICTED
    if allow is not None:
        return allow
    public = bucket.public and not rules.block.ignore_public_acls
    return _PUBLIC if public and action is Action.READ else _NOTHING
