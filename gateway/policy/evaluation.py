"""The decision: explicit deny before allow before nothing said. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import ip_network

from gateway.policy.document import ANYBODY, Policy, Statement
from gateway.policy.operators import Requirement, holds
from gateway.policy.patterns import Context, matches


class Effect(Enum):
    """What a policy says of a request."""

    DENY = auto()
    ALLOW = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: who (an account id, "" for anonymous), what, of which resource (its ARN)."""

    principal: str
    action: str  # s3:GetObject
    resource: str  # arn:aws:s3:::bucket/key
    context: Context


@dataclass(frozen=True, slots=True)
class Verdict:
    """The effect and the statement that it is of (its Sid, or its place from 1)."""

    effect: Effect
    statement: str = ""


def evaluate(policy: Policy, asked: Asked) -> Verdict:
    """What `policy` says. The order of its statements does not matter for the effect."""
    allowed = None
    for place, statement in enumerate(policy.statements, 1):
        if not applies(statement, asked, variables=policy.variables):
            continue
        verdict = Verdict(
            Effect.ALLOW if statement.allow else Effect.DENY, statement.sid or str(place)
        )
        if verdict.effect is Effect.DENY:
            return verdict
        allowed = allowed or verdict
    return allowed or Verdict(Effect.NOTHING)


def applies(statement: Statement, asked: Asked, *, variables: bool) -> bool:
    """Whether all parts of a statement fit a request."""
    named = ANYBODY in statement.principals or asked.principal in statement.principals
    if named is statement.not_principals:
        return False
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
