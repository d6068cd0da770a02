"""Roles: who may become them is their trust policy's, what they may do their other policies'.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
"""

import msgspec

from gateway.iam.call import TEXT, Call, Result, tag_list
from gateway.iam.listing import page_of
from gateway.iam.managed_policies import count_boundary
from gateway.iam.members import check_bare
from gateway.iam.reply import Value, encoded, moment
from gateway.iam.rows import RoleRow, arn, new_id
from gateway.policy.document import Kind

NAME_MAX = 64
TRUST_MAX = 4096
SESSION_SECONDS, SESSION_MIN, SESSION_MAX = 3600, 3600, 43200


def shown(account: str, row: RoleRow, *, whole: bool = False) -> dict[str, Value]:
    """A role; lists show neither tags nor boundary."""
    fields: dict[str, Value] = {
        "Path": row.path,
        "RoleName": row.name,
        "RoleId": row.id,
        "Arn": arn(account, row),
        "CreateDate": moment(row.created_ns),
        "AssumeRolePolicyDocument": encoded(row.trust),
        "Description": row.description or None,
        "MaxSessionDuration": row.session_seconds,
    }
    if whole and row.boundary:
        fields["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": row.boundary,
        }  # fmt: skip
    if whole and row.tags:
        fields["Tags"] = tag_list(row.tags)
    return fields


def _description(call: Call, default: str) -> str:
    return call.params.optional("Description", TEXT, default=default, least=0, most=1000)


def _seconds(call: Call, default: int) -> int:
    return call.params.number("MaxSessionDuration", default, least=SESSION_MIN, most=SESSION_MAX)


def create_role(call: Call) -> Result:
    """A role that may do nothing, and whom its trust policy names may assume."""
    row = RoleRow(
        new_id(RoleRow.id_prefix, call.entropy),
        call.name("RoleName", NAME_MAX),
        call.path(),
        call.now_ns,
        boundary=count_boundary(call),
        tags=call.tags(),
        trust=call.document("AssumeRolePolicyDocument", Kind.TRUST, TRUST_MAX),
        description=_description(call, ""),
        session_seconds=_seconds(call, SESSION_SECONDS),
    )
    call.view.make(row)
    return {"Role": shown(call.account, row, whole=True)}


def named(call: Call) -> RoleRow:
    """The role of RoleName."""
    return call.view.get(RoleRow, call.name("RoleName"))


def get_role(call: Call) -> Result:
    """By name."""
    return {"Role": shown(call.account, named(call), whole=True)}


def list_roles(call: Call) -> Result:
    """A page of roles."""
    return page_of(call, RoleRow, "Roles", lambda row: shown(call.account, row))


def update_role(call: Call) -> Result:
    """Another description or longest session."""
    row = named(call)
    changed = msgspec.structs.replace(
        row,
        description=_description(call, row.description),
        session_seconds=_seconds(call, row.session_seconds),
    )
    call.view.put(changed)
    return {}


def update_role_description(call: Call) -> Result:
    """Another description."""
    row = named(call)
    changed = msgspec.structs.replace(row, description=_description(call, row.description))
    call.view.put(changed)
    return {"Role": shown(call.account, changed, whole=True)}


def update_assume_role_policy(call: Call) -> Result:
    """Another trust policy; sessions that there are go on."""
    row = named(call)
    trust = call.document("PolicyDocument", Kind.TRUST, TRUST_MAX)
    call.view.put(msgspec.structs.replace(row, trust=trust))
    return None


def delete_role(call: Call) -> Result:
    """Only a role without policies; its sessions end."""
    row = named(call)
    check_bare(row)
    count_boundary(call, row.boundary, "")
    call.view.delete(row)
    return None


def list_instance_profiles_for_role(call: Call) -> Result:
    """There are no instances here; terraform asks before it deletes a role."""
    named(call)
    return {"InstanceProfiles": [], "IsTruncated": False}
