"""Groups, whose policies hold for their members.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateGroup.html
"""

import msgspec

from gateway.iam import users
from gateway.iam.call import Call, Result, paged
from gateway.iam.errors import DeleteConflict, LimitExceeded
from gateway.iam.listing import page_of
from gateway.iam.members import check_bare, renamed, with_name
from gateway.iam.reply import Value, moment
from gateway.iam.rows import GroupRow, UserRow, arn, new_id

GROUPS_MAX = 10  # of one user
MEMBERS_MAX = 5000


def shown(account: str, row: GroupRow) -> dict[str, Value]:
    """A group."""
    return {
        "Path": row.path,
        "GroupName": row.name,
        "GroupId": row.id,
        "Arn": arn(account, row),
        "CreateDate": moment(row.created_ns),
    }


def create_group(call: Call) -> Result:
    """A group of nobody, with no policies."""
    name, path = call.name("GroupName"), call.path()
    row = GroupRow(new_id(GroupRow.id_prefix, call.entropy), name, path, call.now_ns)
    call.view.make(row)
    return {"Group": shown(call.account, row)}


def get_group(call: Call) -> Result:
    """The group and a page of its members."""
    row = _named(call)
    members = [user for name in row.members if (user := call.view.find(UserRow, name)) is not None]
    page = paged(
        call,
        "Users",
        [user.name for user in members],
        [users.shown(call.account, user) for user in members],
    )
    return {"Group": shown(call.account, row), **page}


def list_groups(call: Call) -> Result:
    """A page of groups."""
    return page_of(call, GroupRow, "Groups", lambda row: shown(call.account, row))


def list_groups_for_user(call: Call) -> Result:
    """A page of a user's groups."""
    user = users.named(call)
    found = [row for name in user.groups if (row := call.view.find(GroupRow, name)) is not None]
    return paged(
        call,
        "Groups",
        [row.name for row in found],
        [shown(call.account, row) for row in found],
    )


def update_group(call: Call) -> Result:
    """Another name or path; its members go along."""
    row = _named(call)
    name = call.name("NewGroupName") if call.params.has("NewGroupName") else row.name
    if not renamed(call, row, name):
        return None
    for member in row.members:
        user = call.view.get(UserRow, member)
        groups = with_name(user.groups, row.name, name)
        call.view.put(msgspec.structs.replace(user, groups=groups))
    return None


def delete_group(call: Call) -> Result:
    """Only a group that has nothing left."""
    row = _named(call)
    if row.members:
        raise DeleteConflict("Cannot delete entity, must remove users from group first.")
    check_bare(row)
    call.view.delete(row)
    return None


def add_user_to_group(call: Call) -> Result:
    """In force with the commit; again is no error."""
    group, user = _both(call)
    if group.name.lower() in user.groups:
        return None
    if len(user.groups) >= GROUPS_MAX:
        raise LimitExceeded(f"Cannot exceed quota for GroupsPerUser: {GROUPS_MAX}")
    if len(group.members) >= MEMBERS_MAX:
        raise LimitExceeded(f"Cannot exceed quota for UsersPerGroup: {MEMBERS_MAX}")
    members, groups = (*group.members, user.name.lower()), (*user.groups, group.name.lower())
    call.view.put(msgspec.structs.replace(group, members=members))
    call.view.put(msgspec.structs.replace(user, groups=groups))
    return None


def remove_user_from_group(call: Call) -> Result:
    """In force with the commit; no error for who is not in it."""
    group, user = _both(call)
    members = tuple(name for name in group.members if name != user.name.lower())
    groups = tuple(name for name in user.groups if name != group.name.lower())
    call.view.put(msgspec.structs.replace(group, members=members))
    call.view.put(msgspec.structs.replace(user, groups=groups))
    return None


def _named(call: Call) -> GroupRow:
    return call.view.get(GroupRow, call.name("GroupName"))


def _both(call: Call) -> tuple[GroupRow, UserRow]:
    return _named(call), users.named(call)
