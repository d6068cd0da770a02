"""Managed policies: their versions, and who they are attached to.

https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_managed-vs-inline.html
"""

import msgspec

from gateway.iam.call import ARN, Call
from gateway.iam.errors import NoSuchEntity
from gateway.iam.managed import MANAGED
from gateway.iam.rows import PolicyRow, arn

_BOUNDARY = "PermissionsBoundary"


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
