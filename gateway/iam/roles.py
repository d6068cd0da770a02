"""Roles: who may become them is their trust policy's, what they may do their other policies'.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html
"""

import msgspec

from gateway.iam.call import TEXT, Call, Result, paged, tag_list
from gateway.iam.errors import DeleteConflict
from gateway.iam.listing import page_of
from gateway.iam.managed_policies import count_boundary, policy_arn
from gateway.iam.reply import Value, encoded, moment
from gateway.iam.rows import RoleRow, UserRow, arn, new_id
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


def _named(call: Call) -> RoleRow:
    return call.view.get(RoleRow, call.name("RoleName"))


def get_role(call: Call) -> Result:
    """By name."""
    return {"Role": shown(call.account, _named(call), whole=True)}


def list_roles(call: Call) -> Result:
    """A page of roles."""
    return page_of(call, RoleRow, "Roles", lambda row: shown(call.account, row))


def update_role(call: Call) -> Result:
    """Another description or longest session."""
    row = _named(call)
    changed = msgspec.structs.replace(
        row,
        description=_description(call, row.description),
        session_seconds=_seconds(call, row.session_seconds),
    )
    call.view.put(changed)
    return {}


def update_role_description(call: Call) -> Result:
    """Another description."""
    row = _named(call)
    changed = msgspec.structs.replace(row, description=_description(call, row.description))
    call.view.put(changed)
    return {"Role": shown(call.account, changed, whole=True)}


def update_assume_role_policy(call: Call) -> Result:
    """Another trust policy; sessions that there are go on."""
    row = _named(call)
    trust = call.document("PolicyDocument", Kind.TRUST, TRUST_MAX)
    call.view.put(msgspec.structs.replace(row, trust=trust))
    return None


def delete_role(call: Call) -> Result:
    """Only a role without policies; its sessions end."""
    row = _named(call)
    if row.policies:
        raise DeleteConflict("Cannot delete entity, must delete policies first.")
    if row.attached:
        raise DeleteConflict("Cannot delete entity, must detach all policies first.")
    count_boundary(call, row.boundary, "")
    call.view.delete(row)
    return None


def tag_role(call: Call) -> Result:
    """Add tags, or give them other values."""
    row = _named(call)
    call.view.put(msgspec.structs.replace(row, tags=call.with_tags(row.tags)))
    return None


def untag_role(call: Call) -> Result:
    """Remove tags."""
    row = _named(call)
    call.view.put(msgspec.structs.replace(row, tags=call.without_tags(row.tags)))
    return None


def list_role_tags(call: Call) -> Result:
    """A page of tags."""
    row = _named(call)
    return paged(call, "Tags", list(row.tags), tag_list(row.tags))


def list_instance_profiles_for_role(call: Call) -> Result:
    """There are no instances here; terraform asks before it deletes a role."""
    _named(call)
    return {"InstanceProfiles": [], "IsTruncated": False}


# ------------------------------------------------------------------ boundaries, also of users
def put_role_boundary(call: Call) -> Result:
    """What the role's policies give at most."""
    row = _named(call)
    policy = count_boundary(call, row.boundary, policy_arn(call, "PermissionsBoundary"))
    call.view.put(msgspec.structs.replace(row, boundary=policy))
    return None


def delete_role_boundary(call: Call) -> Result:
    """No boundary any more."""
    row = _named(call)
    call.view.put(msgspec.structs.replace(row, boundary=count_boundary(call, row.boundary, "")))
    return None


def put_user_boundary(call: Call) -> Result:
    """What the user's policies give at most."""
    row = call.view.get(UserRow, call.name("UserName"))
    policy = count_boundary(call, row.boundary, policy_arn(call, "PermissionsBoundary"))
    call.view.put(msgspec.structs.replace(row, boundary=policy))
    return None


def delete_user_boundary(call: Call) -> Result:
    """No boundary any more."""
    row = call.view.get(UserRow, call.name("UserName"))
    call.view.put(msgspec.structs.replace(row, boundary=count_boundary(call, row.boundary, "")))
    return None
