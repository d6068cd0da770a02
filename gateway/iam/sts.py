"""STS: sessions for whoever may have them.

https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.iam import errors
from gateway.iam.call import ARN, DOCUMENT, Call, Result, checked_policy
from gateway.iam.identity import opinion
from gateway.iam.principals import managed_document
from gateway.iam.reply import Value, moment
from gateway.iam.rows import RoleRow, UserRow, arn, root_arn, session_arn
from gateway.iam.sessions import Sessions
from gateway.iam.store import IamStore
from gateway.iam.tokens import Session
from gateway.model import Credential
from gateway.policy.document import Kind
from gateway.policy.evaluation import Asked, Effect, Named, evaluate
from gateway.policy.kept import kept_policy
from gateway.policy.patterns import Context

VERSION = "2011-06-15"
ACTIONS = frozenset({"GetCallerIdentity", "GetSessionToken", "AssumeRole"})
_ROLE = re.compile(r"arn:aws:iam::([!-~]{1,128}?):role(/(?:[!-~]*/)?)([\w+=,.@-]{1,64})", re.ASCII)
SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]+")
_EXTERNAL = re.compile(r"[A-Za-z0-9_+=,.@:/\-]+")
SECONDS_MIN = 900
ROOT_SECONDS, TOKEN_SECONDS, TOKEN_DEFAULT = 3600, 129_600, 43_200
ROLE_DEFAULT, CHAINED_SECONDS = 3600, 3600
POLICY_MAX = 2048
POLICIES_MAX = 10
REQUEST_TAG = "aws:requesttag/"


@dataclass(frozen=True, slots=True)
class Role:
    """A role that somebody asks for: its account and row."""

    account: str
    row: RoleRow

    @property
    def arn(self) -> str:
        return arn(self.account, self.row)


def get_caller_identity(caller: Credential) -> Result:
    """Who asks; nobody is refused this."""
    account, identity = caller.account, caller.identity
    return {
        "UserId": identity.id if identity else account.id,
        "Account": account.id,
        "Arn": identity.arn if identity else root_arn(account.id),
    }


def get_session_token(call: Call, sessions: Sessions) -> Result:
    """A session of who asks, with the same rights to S3 and none to IAM."""
    caller = call.caller
    most = TOKEN_SECONDS if caller.identity else ROOT_SECONDS
    seconds = call.params.number(
        "DurationSeconds", min(TOKEN_DEFAULT, most), least=SECONDS_MIN, most=TOKEN_SECONDS
    )
    if caller.temporary:
        raise errors.NotAuthorized("Cannot call GetSessionToken with session credentials")
    if caller.identity is None:
        who = {"kind": "account", "name": "", "id": ""}
    else:
        row = call.view.get(UserRow, caller.identity.name)
        who = {"kind": "user", "name": row.name.lower(), "id": row.id}
    session = _session(call, min(seconds, most), caller.account.id, session="", **who)
    made, token = sessions.issue(session)
    return {"Credentials": _credentials(made, token)}


def find_role(store: IamStore, call: Call) -> Role | None:
    """The role of RoleArn; None if there is none."""
    text = call.params.text("RoleArn", ARN, least=20, most=2048)
    match = _ROLE.fullmatch(text)
    if match is None:
        return None
    with store.view(match[1]) as view:
        row = view.find(RoleRow, match[3])
    return Role(match[1], row) if row is not None and arn(match[1], row) == text else None


def assume_role(call: Call, context: Context, store: IamStore, sessions: Sessions) -> Result:
    """A session of a role whose trust policy names who asks. Raises NotAuthorized."""
    caller, name = call.caller, call.params.text("RoleSessionName", SESSION_NAME, least=2, most=64)
    wanted = call.params.text("RoleArn", ARN, least=20, most=2048)
    if caller.identity is None:
        raise errors.NotAuthorized("Roles may not be assumed by root accounts.")
    role = find_role(store, call)
    refused = errors.NotAuthorized(
        f"User: {caller.identity.arn} is not authorized to perform: sts:AssumeRole on resource: "
        f"{wanted}"
    )
    if role is None:
        raise refused
    tags = call.tags()
    context = {
        **context,
        "sts:rolesessionname": (name,),
        **{REQUEST_TAG + key.lower(): (value,) for key, value in tags.items()},
    }
    external = call.params.optional("ExternalId", _EXTERNAL, least=2, most=1224)
    if external:
        context["sts:externalid"] = (external,)
    actions = ("sts:AssumeRole", "sts:TagSession") if tags else ("sts:AssumeRole",)
    if not all(_trusted(role, caller, action, context) for action in actions):
        raise refused
    most = CHAINED_SECONDS if caller.identity.role else None
    narrowed = session_policies(store, call, role)
    return grant_role(call, role, name, sessions, narrowed, tags=tags, most=most)


def _trusted(role: Role, caller: Credential, action: str, context: Context) -> bool:
    """Both policies are asked: the role's, and those of who asks.

    A role that trusts a user or session by its own name needs no more, also of another account.
    """
    identity = caller.identity
    assert identity is not None
    asked = Asked(caller.account.id, action, role.arn, context, identity.arn, identity.role)
    trust = evaluate(kept_policy(role.row.trust, Kind.TRUST), asked)
    own = opinion(identity, asked)
    if trust.effect is not Effect.ALLOW or own.effect is Effect.DENY:
        return False
    itself = own.effect is Effect.ALLOW and own.within
    if trust.named is Named.SELF or itself:
        return True
    same = caller.account.id == role.account
    return same and trust.named is Named.ROLE and own.within


def grant_role(
    call: Call,
    role: Role,
    name: str,
    sessions: Sessions,
    narrowed: tuple[bytes, tuple[str, ...]],
    *,
    tags: Mapping[str, str],
    most: int | None = None,
) -> dict[str, Value]:
    """A session of a role, for whom its trust policy let through."""
    seconds = call.params.number(
        "DurationSeconds", ROLE_DEFAULT, least=SECONDS_MIN, most=most or role.row.session_seconds
    )
    policy, policies = narrowed
    session = _session(
        call, seconds, role.account, kind="role", name=role.row.name.lower(), id=role.row.id,
        session=name, policy=policy, policies=policies, tags=dict(tags),
    )  # fmt: skip
    made, token = sessions.issue(session)
    return {
        "Credentials": _credentials(made, token),
        "AssumedRoleUser": {
            "AssumedRoleId": f"{role.row.id}:{name}",
            "Arn": session_arn(role.account, role.row.name, name),
        },
        "PackedPolicySize": -(-len(policy) * 100 // POLICY_MAX) if policy else None,
    }


def session_policies(store: IamStore, call: Call, role: Role) -> tuple[bytes, tuple[str, ...]]:
    """What a session is to be narrowed to: inline, and ARNs of the role's account."""
    policy = b""
    if call.params.has("Policy"):
        text = call.params.text("Policy", DOCUMENT, most=1 << 16)
        checked_policy(text, Kind.IDENTITY)
        if len("".join(text.split())) > POLICY_MAX:
            raise errors.PackedPolicyTooLarge
        policy = text.encode()
    given = call.params.structures("PolicyArns", most=POLICIES_MAX)
    arns = tuple(one.get("arn", "") for one in given)
    with store.view(role.account) as view:
        for one in arns:
            if managed_document(view.reader, role.account, one) is None:
                raise errors.NoSuchEntity(f"Policy {one[:128]} does not exist.")
    return policy, arns


def _session(call: Call, seconds: int, account: str, **fields: Any) -> Session:
    """A session from now on, whose keys are still to be made."""
    issued = call.now_ns // 1_000_000_000
    return Session(
        access_key="", secret="", account=account, issued=issued, expires=issued + seconds, **fields
    )


def _credentials(session: Session, token: str) -> dict[str, Value]:
    return {
        "AccessKeyId": session.access_key,
        "SecretAccessKey": session.secret,
        "SessionToken": token,
        "Expiration": moment(session.expires * 1_000_000_000),
    }
