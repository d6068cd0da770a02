"""The decision: explicit deny before allow before nothing said. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from ipaddress import ip_network

from gateway.policy.document import ANYBODY, Policy, Statement
from gateway.policy.operators import Requirement, holds
from gateway.policy.patterns import Context, matches


class Effect(Enum):
    """What a policy says of a request."""

    DENY = auto()
    ALLOW = auto()
    NOTHING = auto()


class Named(IntEnum):
    """How a statement means who asks; what goes further comes later."""

    NOT = auto()
    ACCOUNT = auto()  # the whole account, which decides itself who of it may
    ROLE = auto()  # the role that a session is of, or everybody
    SELF = auto()  # nobody else


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: who (an account id, "" for anonymous), what, of which resource (its ARN).

    `own` is the ARN of a user or of a role's session that acts for the account, `role` that of the
    session's role. Both are empty for the account itself.
    """

    principal: str
    action: str  # s3:GetObject
    resource: str  # arn:aws:s3:::bucket/key
    context: Context
    own: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The effect and the statement that it is of (its Sid, or its place from 1).

    `named`: of all statements that allow it, who is named most narrowly.
    """

    effect: Effect
    statement: str = ""
    named: Named = Named.NOT


_SILENT = Verdict(Effect.NOTHING)


def evaluate(policy: Policy, asked: Asked) -> Verdict:
    """What `policy` says. The order of its statements does not matter for the effect."""
    found = _SILENT
    for place, statement in enumerate(policy.statements, 1):
        named = _named(statement, asked)
        if named is Named.NOT or not _concerns(statement, asked, variables=policy.variables):
            continue
        name = statement.sid or str(place)
        if not statement.allow:
            return Verdict(Effect.DENY, name, named)
        if named > found.named:
            found = Verdict(Effect.ALLOW, name, named)
    return found


def _named(statement: Statement, asked: Asked) -> Named:
    listed = statement.principals
    if statement.not_principals:
        # Who is meant to be spared is listed by its own name, not by its account's alone.
        names = {asked.own, asked.role} - {""} or {asked.principal}
        return Named.NOT if ANYBODY in listed or not names.isdisjoint(listed) else Named.SELF
    if asked.own and asked.own in listed:
        return Named.SELF
    if ANYBODY in listed or (asked.role and asked.role in listed):
        return Named.ROLE
    return Named.ACCOUNT if asked.principal in listed else Named.NOT


def _concerns(statement: Statement, asked: Asked, *, variables: bool) -> bool:
    """Whether action, resource and conditions of a statement fit a request."""
    action = asked.action.lower()
    done = any(matches(one, action, {}, variables=False) for one in statement.actions)
    if done is statement.not_actions:
        return False
    meant = any(
        matches(one, asked.resource, asked.context, variables=variables)
        for one in statement.resources
    )
    if meant is statement.not_resources:
        return False
    return all(holds(test, asked.context, variables=variables) for test in statement.tests)


# ------------------------------------------------------------------ public or not
# Keys whose fixed values mean somebody in particular.
_SOMEBODY = frozenset({
    "aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner", "aws:sourceaccount",
    "aws:userid", "aws:principalarn", "aws:principalaccount",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
})  # fmt: skip
_FIXING = ("stringequals", "stringlike", "stringequalsignorecase", "arnequals", "arnlike")
# Shorter prefixes are most of the Internet; as AWS, which looks at IPv4's /8 and IPv6's /32.
_WIDEST = {4: 8, 6: 32}


def is_public(policy: Policy) -> bool:
    """Whether a statement allows something to everybody, as Block Public Access sees it.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
    """
    return any(
        statement.allow and ANYBODY in statement.principals and not _limited(statement.tests)
        for statement in policy.statements
    )


def _limited(tests: Iterable[Requirement]) -> bool:
    return any(_limits(test) for test in tests if not test.if_exists and not test.quantifier)


def _limits(test: Requirement) -> bool:
    if test.key == "aws:sourceip" and test.operator == "ipaddress":
        networks = [ip_network(value, strict=False) for value in test.values]
        return all(network.prefixlen >= _WIDEST[network.version] for network in networks)
    fixed = test.key in _SOMEBODY and test.operator in _FIXING
    return fixed and not any(sign in value for value in test.values for sign in ("*", "?", "${"))
