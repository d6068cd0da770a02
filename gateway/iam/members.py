"""What users, groups and roles have in common: other names, boundaries, and an end."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from gateway.iam.call import Call, Result
from gateway.iam.errors import DeleteConflict
from gateway.iam.managed_policies import count_boundary, policy_arn
from gateway.iam.rows import Member, RoleRow, UserRow

M = TypeVar("M", bound=Member)


def renamed(call: Call, row: M, name: str) -> bool:
    """Give it `name`, and the path of NewPath; whether others must name it anew."""
    changed = msgspec.structs.replace(row, name=name, path=call.path("NewPath", row.path))
    if name.lower() == row.name.lower():
        call.view.put(changed)
        return False
    call.view.delete(row)
    call.view.make(changed)
    return True


def with_name(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    """Lower-case names, one of them changed."""
    return tuple(new.lower() if name == old.lower() else name for name in names)


def check_bare(row: Member) -> None:
    """Raises DeleteConflict for a member that has policies."""
    if row.policies:
        raise DeleteConflict("Cannot delete entity, must delete policies first.")
    if row.attached:
        raise DeleteConflict("Cannot delete entity, must detach all policies first.")


def boundary_operations(
    noun: str, named: Callable[[Call], UserRow | RoleRow]
) -> dict[str, Callable[[Call], Result]]:
    """What a member's policies give at most: set, and removed. `named` finds the row."""

    def put(call: Call) -> Result:
        row = named(call)
        policy = count_boundary(call, row.boundary, policy_arn(call, "PermissionsBoundary"))
        call.view.put(msgspec.structs.replace(row, boundary=policy))
        return None

    def delete(call: Call) -> Result:
        row = named(call)
        boundary = count_boundary(call, row.boundary, "")
        call.view.put(msgspec.structs.replace(row, boundary=boundary))
        return None

    return {f"Put{noun}PermissionsBoundary": put, f"Delete{noun}PermissionsBoundary": delete}
