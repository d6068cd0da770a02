"""Who acts for an account besides the account itself, and what its policies say. Pure.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.policy.document import Policy
from gateway.policy.evaluation import Asked, Effect, Verdict, evaluate


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, a user's session, or a session of a role.

    `limits`: of each group of policies (a permissions boundary, the policies of a session) one must
    allow too; they give nothing by themselves.
    """

    kind: str  # aws:PrincipalType: User, AssumedRole, Account (a session of the account itself)
    arn: str  # what GetCallerIdentity says
    id: str  # aws:userid
    name: str = ""  # a user's
    role: str = ""  # the ARN of a session's role
    policies: tuple[Policy, ...] = ()
    limits: tuple[tuple[Policy, ...], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    issued: int = 0  # of a session: seconds since 1970

    @property
    def principal(self) -> str:
        """aws:PrincipalArn: the user's, or the role's."""
        return self.role or self.arn


@dataclass(frozen=True, slots=True)
class Opinion:
    """What an identity's own policies say of a request.

    `within`: no limit is silent. Only a grant to nobody but the identity reaches beyond limits.
    """

    effect: Effect
    within: bool
    statement: str = ""


def opinion(identity: Identity, asked: Asked) -> Opinion:
    """Weigh all of an identity's policies."""
    granted = _together(identity.policies, asked)
    limits = [_together(limit, asked) for limit in identity.limits]
    for verdict in (granted, *limits):
        if verdict.effect is Effect.DENY:
            return Opinion(Effect.DENY, False, verdict.statement)
    within = all(verdict.effect is Effect.ALLOW for verdict in limits)
    return Opinion(granted.effect, within, granted.statement)


def _together(policies: Iterable[Policy], asked: Asked) -> Verdict:
    found = Verdict(Effect.NOTHING)
    for policy in policies:
        verdict = evaluate(policy, asked)
        if verdict.effect is Effect.DENY:
            return verdict
        if found.effect is Effect.NOTHING:
            found = verdict
    return found
