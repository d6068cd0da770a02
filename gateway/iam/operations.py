"""The table of IAM's operations: what runs, and which resource a policy is asked for.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.iam import users
from gateway.iam.call import Call, Result
from gateway.iam.inline_policies import MemberPolicies
from gateway.iam.rows import Entity, GroupRow, UserRow, arn, arn_of

VERSION = "2010-05-08"


@dataclass(frozen=True, slots=True)
class Operation:
    """`run` does it on a snapshot; `resource` is what the caller's policies are asked for."""

    run: Callable[[Call], Result]
    resource: Callable[[Call], str]


def _anything(call: Call) -> str:
    del call
    return "*"


def _entity(kind: type[Entity], parameter: str) -> Callable[[Call], str]:
    """The named entity; one that is not there has the path that was given, or none."""

    def resource(call: Call) -> str:
        name = call.name(parameter)
        row = call.view.find(kind, name)
        if row is not None:
            return arn(call.account, row)
        return arn_of(call.account, kind.kind, call.path(), name)

    return resource


def _user(call: Call) -> str:
    """UserName's, or of who asks."""
    name = users.own_name(call)
    if not name:
        return f"arn:aws:iam::{call.account}:root"
    row = call.view.find(UserRow, name)
    return arn_of(call.account, "user", row.path if row else call.path(), row.name if row else name)


def _all(kind: str) -> Callable[[Call], str]:
    return lambda call: f"arn:aws:iam::{call.account}:{kind}/"


OPERATIONS: dict[str, Operation] = {}


def _add(resource: Callable[[Call], str], **operations: Callable[[Call], Result]) -> None:
    OPERATIONS.update({name: Operation(run, resource) for name, run in operations.items()})


_add(
    _user,
    CreateUser=users.create_user,
    GetUser=users.get_user,
    UpdateUser=users.update_user,
    DeleteUser=users.delete_user,
    TagUser=users.tag_user,
    UntagUser=users.untag_user,
    ListUserTags=users.list_user_tags,
    CreateAccessKey=users.create_access_key,
    ListAccessKeys=users.list_access_keys,
    UpdateAccessKey=users.update_access_key,
    DeleteAccessKey=users.delete_access_key,
)
_add(_all("user"), ListUsers=users.list_users)
_add(_anything, GetAccessKeyLastUsed=users.get_access_key_last_used)
_add(_entity(UserRow, "UserName"), **MemberPolicies(UserRow, "User").operations())
_add(_entity(GroupRow, "GroupName"), **MemberPolicies(GroupRow, "Group").operations())
