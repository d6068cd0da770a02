"""OpenID Connect issuers that an account trusts, and the account's summary.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html
"""

import re
from urllib.parse import urlsplit

import msgspec

from gateway.iam.call import ARN, Call, Result, tag_list
from gateway.iam.errors import InvalidInput, LimitExceeded, NoSuchEntity
from gateway.iam.groups import GROUPS_MAX
from gateway.iam.inline_policies import ATTACHED_MAX
from gateway.iam.managed_policies import VERSIONS_MAX
from gateway.iam.reply import Entries, moment
from gateway.iam.rows import GroupRow, PolicyRow, ProviderRow, RoleRow, UserRow, arn, new_id
from gateway.iam.store import ENTITIES_MAX
from gateway.iam.users import KEYS_MAX

PROVIDERS_MAX = 100
AUDIENCES_MAX = 100
THUMBPRINTS_MAX = 5
_URL = re.compile(r"[!-~]+")


def provider_arn(account: str, url: str) -> str:
    """The ARN of the issuer with this URL."""
    return f"arn:aws:iam::{account}:oidc-provider/{url.partition('://')[2]}"


def _checked_url(call: Call) -> str:
    url = call.params.text("Url", _URL, most=255)
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and not parts.username
        plain = plain and (parts.port is None or parts.port > 0)
    except ValueError:
        plain = False
    if not plain or "?" in url or "#" in url:
        raise InvalidInput("Invalid Open ID Connect Provider URL")
    return url.rstrip("/")


def create_provider(call: Call) -> Result:
    """Trust an issuer; nothing is fetched from it before somebody comes with a token of it."""
    url = _checked_url(call)
    if sum(1 for _ in call.view.all(ProviderRow)) >= PROVIDERS_MAX:
        raise LimitExceeded(f"Cannot exceed quota for OpenIdConnectProvidersPerAccount: "
                            f"{PROVIDERS_MAX}")  # fmt: skip
    row = ProviderRow(
        new_id("", call.entropy),
        url.partition("://")[2],
        "/",
        call.now_ns,
        url=url,
        audiences=tuple(dict.fromkeys(call.params.strings("ClientIDList", most=AUDIENCES_MAX))),
        thumbprints=_thumbprints(call),
        tags=call.tags(),
    )
    call.view.make(row)
    return {
        "OpenIDConnectProviderArn": arn(call.account, row),
        "Tags": tag_list(row.tags) or None,
    }


def _thumbprints(call: Call) -> tuple[str, ...]:
    """Kept and shown; certificates are checked by the usual authorities instead."""
    return tuple(call.params.strings("ThumbprintList", most=THUMBPRINTS_MAX, longest=40))


def named(call: Call) -> ProviderRow:
    """The provider of OpenIDConnectProviderArn. Raises NoSuchEntity."""
    given = call.params.text("OpenIDConnectProviderArn", ARN, least=20, most=2048)
    prefix = f"arn:aws:iam::{call.account}:oidc-provider/"
    row = None
    if given.startswith(prefix) and len(given) <= len(prefix) + 255:
        row = call.view.find(ProviderRow, given.removeprefix(prefix))
    if row is None:
        raise NoSuchEntity(f"OpenIDConnect Provider not found for arn {given}")
    return row


def get_provider(call: Call) -> Result:
    """By ARN."""
    row = named(call)
    return {
        "Url": row.url,
        "ClientIDList": list(row.audiences),
        "ThumbprintList": list(row.thumbprints),
        "CreateDate": moment(row.created_ns),
        "Tags": tag_list(row.tags) or None,
    }


def list_providers(call: Call) -> Result:
    """All of them."""
    rows = call.view.all(ProviderRow)
    return {"OpenIDConnectProviderList": [{"Arn": arn(call.account, row)} for row in rows]}


def delete_provider(call: Call) -> Result:
    """Trust it no more; sessions that there are go on."""
    call.view.delete(named(call))
    return None


def add_client_id(call: Call) -> Result:
    """One audience more; again is no error."""
    row, audience = named(call), call.params.text("ClientID", ARN, most=255)
    audiences = tuple(dict.fromkeys((*row.audiences, audience)))
    if len(audiences) > AUDIENCES_MAX:
        raise LimitExceeded(f"Cannot exceed quota for ClientIdsPerProvider: {AUDIENCES_MAX}")
    call.view.put(msgspec.structs.replace(row, audiences=audiences))
    return None


def remove_client_id(call: Call) -> Result:
    """One audience less."""
    row, audience = named(call), call.params.text("ClientID", ARN, most=255)
    left = tuple(one for one in row.audiences if one != audience)
    call.view.put(msgspec.structs.replace(row, audiences=left))
    return None


def update_thumbprints(call: Call) -> Result:
    """Other thumbprints."""
    row = named(call)
    call.view.put(msgspec.structs.replace(row, thumbprints=_thumbprints(call)))
    return None


def get_account_summary(call: Call) -> Result:
    """How much there is of everything, and how much there may be."""
    view = call.view
    counts = {
        "Users": sum(1 for _ in view.all(UserRow)),
        "Groups": sum(1 for _ in view.all(GroupRow)),
        "Roles": sum(1 for _ in view.all(RoleRow)),
        "Policies": sum(1 for _ in view.all(PolicyRow)),
        "Providers": sum(1 for _ in view.all(ProviderRow)),
        "AccountAccessKeysPresent": int(bool(view.root_keys())),
        "AccountMFAEnabled": 0,
        "UsersQuota": ENTITIES_MAX,
        "GroupsQuota": ENTITIES_MAX,
        "RolesQuota": ENTITIES_MAX,
        "PoliciesQuota": ENTITIES_MAX,
        "AccessKeysPerUserQuota": KEYS_MAX,
        "GroupsPerUserQuota": GROUPS_MAX,
        "AttachedPoliciesPerUserQuota": ATTACHED_MAX,
        "AttachedPoliciesPerGroupQuota": ATTACHED_MAX,
        "AttachedPoliciesPerRoleQuota": ATTACHED_MAX,
        "VersionsPerPolicyQuota": VERSIONS_MAX,
    }
    return {"SummaryMap": Entries(counts)}
