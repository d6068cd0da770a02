"""Who may do what: one pure decision.

An explicit deny in any policy goes before everything, also for the owner. Then: an account may do
everything with its own buckets, and its users and sessions what their policies or the bucket's
allow; a bucket's policy may allow others, and users of others may what both sides allow; a public
bucket may be read and listed by anybody. Everything else is denied. docs/adr/150-one-decision.md,
docs/adr/165-identities.md
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from gateway.iam.identity import Identity, opinion
from gateway.model import Account, Bucket
from gateway.policy.document import Policy
from gateway.policy.evaluation import Asked, Effect, Named, evaluate, is_public


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
_NO_RULES = Rules()
_NOT_ITSELF = Decision(False, "the caller's own policies do not allow it")
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
    identity: Identity | None = None,
) -> Decision:
    """Whether `caller` (None: anonymous) may do `action` on `bucket` (None: the service).

    `rules` are those of a guarded bucket; `identity` is who acts for the account, None for the
    account itself. `asked` makes what policies are asked: it is only called when there are any.
    """
    if bucket is None:
        return _of_service(caller, action, asked, identity)
    if action is Action.PREFLIGHT:
        return _PREFLIGHT
    owner = caller is not None and caller.id == bucket.owner.id
    if rules is None and identity is None:
        if owner:
            return _OWNER
        return _PUBLIC if bucket.public and action is Action.READ else _NOTHING
    assert asked is not None
    rules = rules or _NO_RULES
    if identity is not None:
        return _for_identity(rules, asked(), bucket, action, identity, owner=owner)
    return _by_rules(rules, asked, bucket, action, owner=owner)


def _by_rules(
    rules: Rules, asked: Callable[[], Asked], bucket: Bucket, action: Action, *, owner: bool
) -> Decision:
    """For an account itself, or for anybody."""
    grant = _NO_GRANT
    if rules.policy is not None:
        question = asked()
        never_locked = owner and question.action in _NEVER_LOCKED
        grant = _policy_grant(rules.policy, question)
        if grant.denied and not never_locked:
            return Decision(False, grant.reason)
    if owner:
        return _OWNER
    return _for_others(rules, grant, bucket, action)


def _for_identity(
    rules: Rules, asked: Asked, bucket: Bucket, action: Action, identity: Identity, *, owner: bool
) -> Decision:
    """For a user or session: of the bucket's account one side must allow, of another both."""
    grant = _NO_GRANT if rules.policy is None else _policy_grant(rules.policy, asked)
    if grant.denied:
        return Decision(False, grant.reason)
    own = opinion(identity, asked)
    if own.effect is Effect.DENY:
        return Decision(False, f"statement {own.statement} of its policies denies it")
    itself = own.effect is Effect.ALLOW and own.within
    if not owner:
        others = _for_others(rules, grant, bucket, action)
        return others if itself or not others.allowed else _NOT_ITSELF
    if itself:
        return Decision(True, f"statement {own.statement} of its policies allows it")
    if grant.named is Named.SELF or (grant.named is Named.ROLE and own.within):
        return Decision(True, grant.reason)
    public = own.within and _for_all(rules, bucket, action)
    return _PUBLIC if public else _NOTHING


class _Grant(NamedTuple):
    """What a bucket's policy says: denied, or to whom it allows it (Named.NOT: to nobody)."""

    denied: bool
    named: Named
    reason: str


_NO_GRANT = _Grant(False, Named.NOT, "")


def _policy_grant(policy: Policy, asked: Asked) -> _Grant:
    verdict = evaluate(policy, asked)
    if verdict.effect is Effect.DENY:
        return _Grant(True, Named.NOT, f"statement {verdict.statement} denies it")
    if verdict.effect is Effect.NOTHING or asked.action in _OWNERS:
        return _NO_GRANT
    return _Grant(False, verdict.named, f"statement {verdict.statement} allows it")


def _for_others(rules: Rules, grant: _Grant, bucket: Bucket, action: Action) -> Decision:
    """What anybody but the bucket's account gets of the bucket's side."""
    if rules.policy and rules.block.restrict_public_buckets and is_public(rules.policy):
        return _RESTRICTED
    if grant.named is not Named.NOT:
        return Decision(True, grant.reason)
    return _PUBLIC if _for_all(rules, bucket, action) else _NOTHING


def _for_all(rules: Rules, bucket: Bucket, action: Action) -> bool:
    """Whether the bucket's ACL opens it to everybody."""
    return bucket.public and not rules.block.ignore_public_acls and action is Action.READ


def _of_service(
    caller: Account | None,
    action: Action,
    asked: Callable[[], Asked] | None,
    identity: Identity | None,
) -> Decision:
    """An account's own service is its own, and of its users whose policies allow it."""
    if caller is None or action is not Action.SERVICE:
        return _NOTHING
    if identity is None:
        return _SERVICE
    assert asked is not None
    own = opinion(identity, asked())
    if own.effect is Effect.ALLOW and own.within:
        return Decision(True, f"statement {own.statement} of its policies allows it")
    return _NOTHING
