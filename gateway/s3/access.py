"""Who may do what: one pure decision.

An explicit deny in any policy goes before everything, also for the owner. Then: an account may do
everything with its own buckets, but read what others own in them; its users and sessions what
their policies or the bucket's allow. A bucket's policy may allow others what is the bucket owner's;
a bucket open as a whole may be read and listed by anybody; the lists of the bucket and of the
object grant their rights. Users of others may what both sides allow. Everything else is denied.
docs/adr/150-one-decision.md, docs/adr/153-acls.md, docs/adr/165-identities.md
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

import msgspec

from gateway.iam.identity import Identity, opinion
from gateway.model import Account, Bucket
from gateway.policy.document import Policy
from gateway.policy.evaluation import Asked, Effect, Named, evaluate, is_public
from gateway.s3.grants import Acl, Ownership, Right, grants_right, private


class Action(Enum):
    """What an operation does to what it names: the right of a list that is enough for it."""

    SERVICE = auto()  # the caller's own account: ListBuckets, CreateBucket
    LIST = auto()  # a bucket's objects and uploads, and whether it is there
    READ = auto()  # an object and its metadata
    WRITE = auto()  # objects and uploads
    UPLOAD = auto()  # an upload's own affairs: its parts listed, the whole given up
    CONFIGURE = auto()  # settings and their values, tags: what no list grants
    READ_ACL = auto()  # of the bucket
    WRITE_ACL = auto()
    READ_OBJECT_ACL = auto()
    WRITE_OBJECT_ACL = auto()
    PREFLIGHT = auto()  # a browser's question whether its page may ask


_OF_BUCKET = {
    Action.LIST: Right.READ,
    Action.WRITE: Right.WRITE,
    Action.READ_ACL: Right.READ_ACP,
    Action.WRITE_ACL: Right.WRITE_ACP,
}
_OF_OBJECT = {
    Action.READ: Right.READ,
    Action.READ_OBJECT_ACL: Right.READ_ACP,
    Action.WRITE_OBJECT_ACL: Right.WRITE_ACP,
}
# These are judged when the object's or the upload's row was read, by whoever reads it.
WITH_ROW = _OF_OBJECT.keys() | {Action.UPLOAD}
_OPEN = frozenset({Action.LIST, Action.READ})


class PublicAccessBlock(msgspec.Struct, frozen=True, array_like=True):
    """What a bucket refuses whatever its ACL or policy says. Kept as MessagePack."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False


class Rules(msgspec.Struct, frozen=True):
    """What a bucket is judged by."""

    policy: Policy | None = None
    block: PublicAccessBlock = PublicAccessBlock()
    acl: Acl | None = None  # of the bucket; None: private
    ownership: Ownership = Ownership.WRITER
    requester_pays: bool = False


class Decision(NamedTuple):
    """Whether, and why: for the log, never for the caller."""

    allowed: bool
    reason: str
    explicit: bool = False  # a statement denies it


_OWNER = Decision(True, "the bucket's owner")
_PUBLIC = Decision(True, "the bucket is open as a whole")
GRANTED = Decision(True, "an access control list grants it")
_INITIATOR = Decision(True, "who began the upload")
_SERVICE = Decision(True, "an account's own service")
_PREFLIGHT = Decision(True, "preflights are answered to anybody")
_NOTHING = Decision(False, "nothing allows it")
_NOT_ITSELF = Decision(False, "the caller's own policies do not allow it")
_RESTRICTED = Decision(False, "the public access block restricts a public policy to the owner")
_UNPAID = Decision(False, "whoever asks has to pay, and does not say so")
_NO_RULES = Rules()
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
    *,
    found: Acl | None = None,
    pays: bool = False,
) -> Decision:
    """Whether `caller` (None: anonymous) may do `action` on `bucket` (None: the service).

    `rules` are those of a bucket that has any; `identity` is who acts for the account, None for the
    account itself. `asked` makes what policies are asked: it is only called when there are any.
    `found`: the list of the object or upload; None is the bucket owner's own and private, and so is
    what is not there. `pays`: the caller says so.
    """
    if bucket is None:
        return _of_service(caller, action, asked, identity)
    if action is Action.PREFLIGHT:
        return _PREFLIGHT
    plain = rules is None and identity is None and found is None
    if plain and caller is not None and caller.id == bucket.owner.id:
        return _OWNER
    case = _Case(caller, action, bucket, rules or _NO_RULES, found, pays)
    if identity is not None:
        assert asked is not None
        return _for_identity(case, asked(), identity)
    grant = _NO_GRANT
    if case.rules.policy is not None:
        assert asked is not None
        question = asked()
        never_locked = case.owner and question.action in _NEVER_LOCKED
        grant = _policy_grant(case.rules.policy, question)
        if grant.denied and not never_locked:
            return Decision(False, grant.reason, explicit=True)
    return _OWNER if case.owner and not case.foreign else _for_others(case, grant)


class _Case(NamedTuple):
    """What is asked, with all that it is judged by but policies."""

    caller: Account | None
    action: Action
    bucket: Bucket
    rules: Rules
    found: Acl | None
    pays: bool

    @property
    def owner(self) -> bool:
        """The bucket's account asks."""
        return self.caller is not None and self.caller.id == self.bucket.owner.id

    @property
    def foreign(self) -> bool:
        """The object is another account's, which neither the bucket's owner nor policy give."""
        return (
            self.found is not None
            and self.found.owner != self.bucket.owner.id
            and self.action in _OF_OBJECT
            and self.rules.ownership is not Ownership.ENFORCED
        )


def _for_identity(case: _Case, asked: Asked, identity: Identity) -> Decision:
    """For a user or session: of the bucket's account one side must allow, of another both."""
    policy = case.rules.policy
    grant = _NO_GRANT if policy is None else _policy_grant(policy, asked)
    if grant.denied:
        return Decision(False, grant.reason, explicit=True)
    own = opinion(identity, asked)
    if own.effect is Effect.DENY:
        reason = f"statement {own.statement} of its policies denies it"
        return Decision(False, reason, explicit=True)
    itself = own.effect is Effect.ALLOW and own.within
    if case.foreign or not case.owner:
        others = _for_others(case, grant)
        return others if itself or not others.allowed else _NOT_ITSELF
    if itself:
        return Decision(True, f"statement {own.statement} of its policies allows it")
    if grant.named is Named.SELF or (grant.named is Named.ROLE and own.within):
        return Decision(True, grant.reason)
    # What everybody may, also the bucket's users may: what its account was granted is not that.
    return _by_lists(case._replace(caller=None)) if own.within else _NOTHING


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


def _for_others(case: _Case, grant: _Grant) -> Decision:
    """What anybody may of the bucket's side who does not own what is asked for."""
    rules = case.rules
    if not case.owner:
        if rules.requester_pays and not (case.caller is not None and case.pays):
            return _UNPAID
        if rules.policy and rules.block.restrict_public_buckets and is_public(rules.policy):
            return _RESTRICTED
    if grant.named is not Named.NOT and not case.foreign:
        return Decision(True, grant.reason)
    return _by_lists(case)


def _by_lists(case: _Case) -> Decision:
    """What a bucket open as a whole, who began an upload, and access control lists give."""
    bucket, rules, action, found = case.bucket, case.rules, case.action, case.found
    ignore = rules.block.ignore_public_acls
    if bucket.public and action in _OPEN and not ignore:
        return _PUBLIC
    who = "" if case.caller is None else case.caller.id
    if action is Action.UPLOAD:
        began = found is not None and who == (found.initiator or found.owner)
        return _INITIATOR if began else _NOTHING
    if rules.ownership is Ownership.ENFORCED:
        return _NOTHING  # lists say nothing
    right = _OF_BUCKET.get(action) or _OF_OBJECT.get(action)
    listed = found if action in _OF_OBJECT else rules.acl
    acl = private(bucket.owner.id) if listed is None else listed
    granted = right is not None and grants_right(acl, who, right, ignore_public=ignore)
    return GRANTED if granted else _NOTHING


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
