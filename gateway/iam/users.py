"""Users and their access keys.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateUser.html
"""

import re

import msgspec

from gateway.accounts import new_pair
from gateway.iam.call import Call, Result, paged, tag_list
from gateway.iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity
from gateway.iam.listing import page_of
from gateway.iam.managed_policies import count_boundary
from gateway.iam.members import check_bare, renamed, with_name
from gateway.iam.reply import Value, moment
from gateway.iam.rows import GroupRow, UserRow, arn, new_id, root_arn
from gateway.records import AccessKeyRow

NAME_MAX = 64
KEYS_MAX = 2
_KEY_ID = re.compile(r"\w+", re.ASCII)


def shown(account: str, row: UserRow, *, tags: bool = False) -> dict[str, Value]:
    """A user; lists show neither tags nor boundary."""
    fields: dict[str, Value] = {
        "Path": row.path,
        "UserName": row.name,
        "UserId": row.id,
        "Arn": arn(account, row),
        "CreateDate": moment(row.created_ns),
    }
    if tags and row.boundary:
        fields["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": row.boundary,
        }  # fmt: skip
    if tags and row.tags:
        fields["Tags"] = tag_list(row.tags)
    return fields


def create_user(call: Call) -> Result:
    """A user without policies: it may do nothing."""
    row = UserRow(
        new_id(UserRow.id_prefix, call.entropy),
        call.name("UserName", NAME_MAX),
        call.path(),
        call.now_ns,
        tags=call.tags(),
        boundary=count_boundary(call),
    )
    call.view.make(row)
    return {"User": shown(call.account, row, tags=True)}


def get_user(call: Call) -> Result:
    """By name, or who asks."""
    if not call.params.has("UserName") and not (call.caller.identity and call.caller.identity.name):
        account = call.caller.account
        return {"User": {"Path": "/", "UserName": account.name, "UserId": account.id,
                         "Arn": root_arn(account.id), "CreateDate": moment(0)}}  # fmt: skip
    row = call.view.get(UserRow, own_name(call))
    return {"User": shown(call.account, row, tags=True)}


def named(call: Call) -> UserRow:
    """The user of UserName."""
    return call.view.get(UserRow, call.name("UserName"))


def own_name(call: Call) -> str:
    """UserName, or that of who asks; "" for the account itself."""
    if call.params.has("UserName"):
        return call.name("UserName", 128)
    identity = call.caller.identity
    return identity.name if identity is not None else ""


def list_users(call: Call) -> Result:
    """A page of users."""
    return page_of(call, UserRow, "Users", lambda row: shown(call.account, row))


def update_user(call: Call) -> Result:
    """Another name or path; keys and groups go along, policies that name the ARN do not."""
    row = named(call)
    name = call.name("NewUserName", NAME_MAX) if call.params.has("NewUserName") else row.name
    if not renamed(call, row, name):
        return None
    for key in row.keys:
        held = call.view.key(key)
        if held is not None:
            call.view.put_key(key, msgspec.structs.replace(held, user=name.lower()))
    for one in row.groups:
        group = call.view.get(GroupRow, one)
        members = with_name(group.members, row.name, name)
        call.view.put(msgspec.structs.replace(group, members=members))
    return None


def delete_user(call: Call) -> Result:
    """Only a user that has nothing left."""
    row = named(call)
    if row.keys:
        raise DeleteConflict("Cannot delete entity, must delete access keys first.")
    check_bare(row)
    if row.groups:
        raise DeleteConflict("Cannot delete entity, must remove users from group first.")
    count_boundary(call, row.boundary, "")
    call.view.delete(row)
    return None


# ------------------------------------------------------------------ access keys
def create_access_key(call: Call) -> Result:
    """A pair for a user, or for the account itself; the secret is never shown again."""
    name = own_name(call)
    row = call.view.get(UserRow, name) if name else None
    held = list(row.keys) if row else [key for key, _ in call.view.root_keys()]
    if len(held) >= KEYS_MAX:
        raise LimitExceeded(f"Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}")
    access, secret = new_pair(call.entropy)
    if call.view.any_key(access) is not None:
        raise EntityAlreadyExists("The access key exists.")  # one in 2**80
    call.view.put_key(
        access,
        AccessKeyRow(call.account, secret, call.now_ns, row.name.lower() if row else ""),
    )
    if row is not None:
        call.view.put(msgspec.structs.replace(row, keys=(*row.keys, access)))
    return {"AccessKey": {
        "UserName": row.name if row else call.caller.account.name,
        "AccessKeyId": access,
        "Status": "Active",
        "SecretAccessKey": secret,
        "CreateDate": moment(call.now_ns),
    }}  # fmt: skip


def list_access_keys(call: Call) -> Result:
    """A page of a user's keys, without their secrets."""
    name = own_name(call)
    if name:
        row = call.view.get(UserRow, name)
        held = [(key, found) for key in row.keys if (found := call.view.key(key)) is not None]
        user = row.name
    else:
        held, user = call.view.root_keys(), call.caller.account.name
    page = paged(
        call,
        "AccessKeyMetadata",
        [key for key, _ in held],
        [
            {"UserName": user, "AccessKeyId": key, "Status": _status(found),
             "CreateDate": moment(found.created_ns)}
            for key, found in held
        ],
    )  # fmt: skip
    return {"UserName": user, **page}


def _status(row: AccessKeyRow) -> str:
    return "Active" if row.active else "Inactive"


def _named_key(call: Call) -> tuple[str, AccessKeyRow]:
    name = own_name(call)
    if name:
        name = call.view.get(UserRow, name).name.lower()
    access = call.params.text("AccessKeyId", _KEY_ID, least=3, most=128)
    row = call.view.key(access)
    if row is None or row.user != name:
        raise NoSuchEntity(f"The Access Key with id {access} cannot be found.")
    return access, row


def update_access_key(call: Call) -> Result:
    """Switch a key on or off: in force with the commit."""
    active = call.params.choice("Status", ("Active", "Inactive")) == "Active"
    access, row = _named_key(call)
    call.view.put_key(access, msgspec.structs.replace(row, active=active))
    return None


def delete_access_key(call: Call) -> Result:
    """Remove a key: in force with the commit."""
    access, row = _named_key(call)
    call.view.delete_key(access)
    if row.user:
        user = call.view.get(UserRow, row.user)
        left = tuple(key for key in user.keys if key != access)
        call.view.put(msgspec.structs.replace(user, keys=left))
    return None


def get_access_key_last_used(call: Call) -> Result:
    """Whose key it is; when it was used is not recorded."""
    access = call.params.text("AccessKeyId", _KEY_ID, least=3, most=128)
    row = call.view.key(access)
    if row is None:
        raise NoSuchEntity(f"The Access Key with id {access} cannot be found.")
    user = call.view.get(UserRow, row.user).name if row.user else call.caller.account.name
    unknown: dict[str, Value] = {"ServiceName": "N/A", "Region": "N/A"}
    return {"UserName": user, "AccessKeyLastUsed": unknown}
