"""Managed policies: their versions, and who they are attached to.

https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_managed-vs-inline.html
"""

import re

import msgspec

from gateway.iam.call import ARN, TEXT, Call, Result, listed, tag_list
from gateway.iam.errors import (
    DeleteConflict,
    LimitExceeded,
    NoSuchEntity,
    UnmodifiableEntity,
)
from gateway.iam.listing import page_of
from gateway.iam.managed import MANAGED
from gateway.iam.reply import Value, encoded, moment
from gateway.iam.rows import GroupRow, PolicyRow, PolicyVersion, RoleRow, UserRow, arn, new_id
from gateway.policy.document import Kind

_BOUNDARY = "PermissionsBoundary"
DOCUMENT_MAX = 6144  # characters without white space
VERSIONS_MAX = 5
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")


def find_policy(call: Call, policy: str) -> PolicyRow | None:
    """The account's policy of this ARN; None for AWS's own. Raises NoSuchEntity."""
    if policy in MANAGED:
        return None
    name = policy.rpartition("/")[2]
    row = call.view.find(PolicyRow, name) if 0 < len(name) <= 128 else None
    if row is None or arn(call.account, row) != policy:
        raise NoSuchEntity(f"Policy {policy} does not exist or is not attachable.")
    return row


def policy_arn(call: Call, parameter: str = "PolicyArn") -> str:
    """A required ARN of a managed policy."""
    return call.params.text(parameter, ARN, least=20, most=2048)


def count_boundary(call: Call, old: str = "", new: str | None = None) -> str:
    """Set a permissions boundary for another: who has it is counted. Returns the new one.

    `new` None: what PermissionsBoundary says, "" without it. Raises NoSuchEntity.
    """
    if new is None:
        new = policy_arn(call, _BOUNDARY) if call.params.has(_BOUNDARY) else ""
    if new != old:
        for policy, by in ((old, -1), (new, 1)):
            row = _counted(call, policy, gone=by < 0)
            if row is not None:
                call.view.put(msgspec.structs.replace(row, boundaries=row.boundaries + by))
    return new


def count_attachment(call: Call, policy: str, by: int) -> None:
    """One more (+1) or fewer (-1) has a managed policy. Raises NoSuchEntity for one that is not."""
    row = _counted(call, policy, gone=by < 0)
    if row is not None:
        call.view.put(msgspec.structs.replace(row, attachments=row.attachments + by))


def _counted(call: Call, policy: str, *, gone: bool) -> PolicyRow | None:
    if not policy:
        return None
    try:
        return find_policy(call, policy)
    except NoSuchEntity:
        if gone:
            return None
        raise


# ------------------------------------------------------------------ operations
def shown(account: str, row: PolicyRow, *, whole: bool = False) -> dict[str, Value]:
    """A policy without its document; lists show neither description nor tags."""
    fields: dict[str, Value] = {
        "PolicyName": row.name,
        "PolicyId": row.id,
        "Arn": arn(account, row),
        "Path": row.path,
        "DefaultVersionId": f"v{row.default}",
        "AttachmentCount": row.attachments,
        "PermissionsBoundaryUsageCount": row.boundaries,
        "IsAttachable": True,
        "CreateDate": moment(row.created_ns),
        "UpdateDate": moment(row.updated_ns),
    }
    if whole and row.description:
        fields["Description"] = row.description
    if whole and row.tags:
        fields["Tags"] = tag_list(row.tags)
    return fields


def _builtin(policy: str, *, whole: bool = False) -> dict[str, Value]:
    """One of AWS's own, whose attachments are not counted."""
    row = PolicyRow("ANPAI" + policy.rpartition("/")[2].upper()[:16], policy.rpartition("/")[2],
                    "/", 0)  # fmt: skip
    return shown("aws", row, whole=whole)


def create_policy(call: Call) -> Result:
    """A policy with one version, which is the default one."""
    document = call.document("PolicyDocument", Kind.IDENTITY, DOCUMENT_MAX)
    row = PolicyRow(
        new_id(PolicyRow.id_prefix, call.entropy),
        call.name("PolicyName"),
        call.path(),
        call.now_ns,
        updated_ns=call.now_ns,
        description=call.params.optional("Description", TEXT, least=0, most=1000),
        versions=(PolicyVersion(1, call.now_ns, document),),
        tags=call.tags(),
    )
    call.view.make(row)
    return {"Policy": shown(call.account, row, whole=True)}


def get_policy(call: Call) -> Result:
    """An account's own, or one of AWS's."""
    policy = policy_arn(call)
    row = find_policy(call, policy)
    if row is None:
        return {"Policy": _builtin(policy, whole=True)}
    return {"Policy": shown(call.account, row, whole=True)}


def list_policies(call: Call) -> Result:
    """A page of the account's policies, of AWS's, or of both."""
    scope = call.params.choice("Scope", ("All", "AWS", "Local"), "All")
    attached = call.params.choice("OnlyAttached", ("true", "false"), "false") == "true"
    marker, start = call.marker(), call.path_prefix()
    limit, rows = call.limit(), list[Value]()
    if scope != "Local" and not attached and start == "/":
        rows = [_builtin(one) for one in sorted(MANAGED)]
    if scope == "AWS" or (rows and marker.startswith("aws:")) or (rows and not marker):
        at = int(marker[4:]) if re.fullmatch(r"aws:[0-9]{1,4}", marker) else 0
        page = rows[at : at + limit]
        more = at + limit < len(rows)
        following = f"aws:{at + limit}" if more else "local:" if scope == "All" else ""
        return listed("Policies", page, following)

    def wanted(row: PolicyRow) -> bool:
        return bool(row.attachments) or not attached

    return page_of(
        call, PolicyRow, "Policies", lambda row: shown(call.account, row), wanted,
        after=marker.removeprefix("local:"),
    )  # fmt: skip


def delete_policy(call: Call) -> Result:
    """Only a policy with one version that nobody has."""
    row = own(call)
    if row.attachments or row.boundaries:
        raise DeleteConflict("Cannot delete a policy attached to entities.")
    if len(row.versions) > 1:
        raise DeleteConflict("This policy has more than one version. Before you delete a policy, "
                             "you must delete the policy's versions.")  # fmt: skip
    call.view.delete(row)
    return None


def create_policy_version(call: Call) -> Result:
    """One version more, at most five; perhaps the default one."""
    row = own(call)
    document = call.document("PolicyDocument", Kind.IDENTITY, DOCUMENT_MAX)
    default = call.params.choice("SetAsDefault", ("true", "false"), "false") == "true"
    if len(row.versions) >= VERSIONS_MAX:
        raise LimitExceeded("A managed policy can have up to 5 versions. Before you create a new "
                            "version, you must delete an existing version.")  # fmt: skip
    version = PolicyVersion(row.last + 1, call.now_ns, document)
    changed = msgspec.structs.replace(
        row,
        versions=(*row.versions, version),
        last=version.number,
        default=version.number if default else row.default,
        updated_ns=call.now_ns,
    )
    call.view.put(changed)
    return {"PolicyVersion": _version(changed, version, document=False)}


def get_policy_version(call: Call) -> Result:
    """A version with its document."""
    policy = policy_arn(call)
    row, number = find_policy(call, policy), _number(call)
    if row is None:
        row = PolicyRow("", "", "/", 0, versions=(PolicyVersion(1, 0, MANAGED[policy]),))
    return {"PolicyVersion": _version(row, _find(row, number), document=True)}


def list_policy_versions(call: Call) -> Result:
    """All versions, newest first."""
    policy = policy_arn(call)
    row = find_policy(call, policy)
    if row is None:
        row = PolicyRow("", "", "/", 0, versions=(PolicyVersion(1, 0, MANAGED[policy]),))
    versions = [_version(row, one, document=False) for one in reversed(row.versions)]
    return listed("Versions", versions)


def delete_policy_version(call: Call) -> Result:
    """Any but the default one."""
    row = own(call)
    version = _find(row, _number(call))
    if version.number == row.default:
        raise DeleteConflict("Cannot delete the default version of a policy.")
    left = tuple(one for one in row.versions if one.number != version.number)
    call.view.put(msgspec.structs.replace(row, versions=left))
    return None


def set_default_policy_version(call: Call) -> Result:
    """What holds from now on for whoever has the policy."""
    row = own(call)
    version = _find(row, _number(call))
    changed = msgspec.structs.replace(row, default=version.number, updated_ns=call.now_ns)
    call.view.put(changed)
    return None


def list_entities_for_policy(call: Call) -> Result:
    """Who has the policy attached, in one page."""
    policy = policy_arn(call)
    find_policy(call, policy)
    names: dict[str, list[Value]] = {}
    for kind, noun in ((UserRow, "User"), (GroupRow, "Group"), (RoleRow, "Role")):
        names[f"Policy{noun}s"] = [
            {f"{noun}Name": row.name, f"{noun}Id": row.id}
            for row in call.view.all(kind)
            if policy in row.attached
        ]
    return {**names, "IsTruncated": False}


def own(call: Call) -> PolicyRow:
    """The account's policy of PolicyArn. Raises UnmodifiableEntity, NoSuchEntity."""
    row = find_policy(call, policy_arn(call))
    if row is None:
        raise UnmodifiableEntity
    return row


def _number(call: Call) -> int:
    return int(call.params.text("VersionId", _VERSION, most=10)[1:])


def _find(row: PolicyRow, number: int) -> PolicyVersion:
    for one in row.versions:
        if one.number == number:
            return one
    raise NoSuchEntity(f"Policy version v{number} does not exist.")


def _version(row: PolicyRow, version: PolicyVersion, *, document: bool) -> dict[str, Value]:
    fields: dict[str, Value] = {
        "VersionId": f"v{version.number}",
        "IsDefaultVersion": version.number == row.default,
        "CreateDate": moment(version.created_ns),
    }
    return fields | ({"Document": encoded(version.document)} if document else {})
