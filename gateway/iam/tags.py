"""Tags of users, roles, managed policies and providers: one set of operations for all.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_TagUser.html
"""

from collections.abc import Callable

import msgspec

from gateway.iam.call import Call, Result, paged, tag_list
from gateway.iam.rows import PolicyRow, ProviderRow, RoleRow, UserRow

Tagged = UserRow | RoleRow | PolicyRow | ProviderRow


def tag_operations(
    noun: str, named: Callable[[Call], Tagged]
) -> dict[str, Callable[[Call], Result]]:
    """Tag…, Untag… and List…Tags of what operations call `noun`; `named` finds the row."""

    def tag(call: Call) -> Result:
        row = named(call)
        call.view.put(msgspec.structs.replace(row, tags=call.with_tags(row.tags)))
        return None

    def untag(call: Call) -> Result:
        row = named(call)
        call.view.put(msgspec.structs.replace(row, tags=call.without_tags(row.tags)))
        return None

    def list_tags(call: Call) -> Result:
        row = named(call)
        return paged(call, "Tags", list(row.tags), tag_list(row.tags))

    return {f"Tag{noun}": tag, f"Untag{noun}": untag, f"List{noun}Tags": list_tags}
