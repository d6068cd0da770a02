"""AssumeRoleWithWebIdentity: a session of a role for who shows a token of a trusted issuer.

Nobody signs the request: the token is the proof. Only issuers that the role's account has
configured are believed, and asked for their keys.
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

import re
from collections.abc import Mapping
from typing import Any

from gateway.iam import errors
from gateway.iam.call import Call, Result
from gateway.iam.issuers import FetchFailed, Issuers
from gateway.iam.jwt import TOKEN_MAX, BadToken, ExpiredToken, Token, parse_token, verify
from gateway.iam.rows import ProviderRow, arn
from gateway.iam.sessions import Sessions
from gateway.iam.store import IamStore
from gateway.iam.sts import REQUEST_TAG, SESSION_NAME, Role, find_role, grant_role, session_policies
from gateway.policy.document import Kind
from gateway.policy.evaluation import Asked, Effect, Named, evaluate
from gateway.policy.kept import kept_policy
from gateway.policy.patterns import Context

ACTION = "AssumeRoleWithWebIdentity"
_TOKEN = re.compile(r"[A-Za-z0-9_.=-]+")
_TAGS = "https://aws.amazon.com/tags"
_CLAIMS_MAX, _VALUES_MAX = 64, 64


async def assume_role_with_web_identity(
    call: Call, context: Context, store: IamStore, sessions: Sessions, issuers: Issuers
) -> Result:
    """Raises IamError."""
    name = call.params.text("RoleSessionName", SESSION_NAME, least=2, most=64)
    text = call.params.text("WebIdentityToken", _TOKEN, least=4, most=TOKEN_MAX)
    role = find_role(store, call)
    refused = errors.NotAuthorized(f"Not authorized to perform sts:{ACTION}")
    if role is None:
        raise refused
    try:
        token = parse_token(text)
        provider = _provider(store, role, token)
        keys = await issuers.keys(provider.url, token.key_id)
        verify(token, keys, call.now_ns / 1e9)
        subject = _subject(token)
    except ExpiredToken:
        raise errors.ExpiredIdentity from None
    except FetchFailed as problem:
        raise errors.IDPCommunicationError(f"The issuer's keys: {problem}") from None
    except BadToken as problem:
        raise errors.InvalidIdentityToken(f"The web identity token: {problem}") from None
    audience = next((one for one in token.audiences if one in provider.audiences), None)
    if audience is None:
        raise errors.InvalidIdentityToken("Incorrect token audience")
    tags = _tags(token.claims)
    asked_with = {
        **_claims(provider.name.lower(), token),
        **context,  # (no claim stands for one of these)
        "sts:rolesessionname": (name,),
        **{REQUEST_TAG + key.lower(): (value,) for key, value in tags.items()},
    }
    for action in (f"sts:{ACTION}", "sts:TagSession") if tags else (f"sts:{ACTION}",):
        if not _trusted(role, provider, action, asked_with):
            raise refused
    narrowed = session_policies(store, call, role)
    granted = grant_role(call, role, name, sessions, narrowed, tags=tags)
    return {
        **granted,
        "SubjectFromWebIdentityToken": subject,
        "Provider": provider.url,
        "Audience": audience,
    }


def _provider(store: IamStore, role: Role, token: Token) -> ProviderRow:
    url = token.issuer.rstrip("/")
    name = url.partition("://")[2]
    if 0 < len(name) <= 255 and name.isascii() and name.isprintable():
        with store.view(role.account) as view:
            row = view.find(ProviderRow, name)
        if row is not None and row.url == url:
            return row
    raise BadToken(f"no provider of the account is its issuer {url[:128]}")


def _trusted(role: Role, provider: ProviderRow, action: str, context: Context) -> bool:
    """Whether the role's trust policy names the issuer, and its conditions hold."""
    asked = Asked("", action, role.arn, context, own=arn(role.account, provider))
    verdict = evaluate(kept_policy(role.row.trust, Kind.TRUST), asked)
    return verdict.effect is Effect.ALLOW and verdict.named is Named.SELF


def _subject(token: Token) -> str:
    subject = token.claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise BadToken("says not whose it is")
    return subject


def _claims(provider: str, token: Token) -> dict[str, tuple[str, ...]]:
    """Texts of a token as condition keys (`ISSUER:sub`); with azp, that is aud, and aud is oaud."""
    claims = dict(list(token.claims.items())[:_CLAIMS_MAX])
    if isinstance(claims.get("azp"), str):
        claims |= {"aud": claims["azp"], "oaud": token.audiences}
    found = {}
    for name, value in claims.items():
        texts = value if isinstance(value, list) else [value]
        kept = tuple(one for one in texts[:_VALUES_MAX] if isinstance(one, str))
        if kept:
            found[f"{provider}:{name.lower()}"] = kept
    return found


def _tags(claims: Mapping[str, Any]) -> dict[str, str]:
    """Session tags that the issuer gives: {"principal_tags": {name: [value]}}."""
    given = claims.get(_TAGS)
    tags = given.get("principal_tags") if isinstance(given, dict) else None
    if tags is None:
        return {}
    found = {}
    for name, values in tags.items() if isinstance(tags, dict) else ():
        value = values[0] if isinstance(values, list) and len(values) == 1 else values
        if not isinstance(value, str) or not 0 < len(name) <= 128 or len(value) > 256:
            raise errors.InvalidIdentityToken("The web identity token: its tags are malformed")
        found[name] = value
    if len(found) > 50:
        raise errors.InvalidIdentityToken("The web identity token: too many tags")
    return found
