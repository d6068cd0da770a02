"""The table of IAM's operations: what runs, and which resource a policy is asked for.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.iam import absent, groups, managed_policies, providers, roles, users
from gateway.iam.call import ARN, Call, Result
from gateway.iam.inline_policies import MemberPolicies
from gateway.iam.members import boundary_operations
from gateway.iam.rows import Entity, GroupRow, PolicyRow, RoleRow, UserRow, arn, arn_of
from gateway.iam.tags import tag_operations

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


def _given(parameter: str) -> Callable[[Call], str]:
    return lambda call: call.params.text(parameter, ARN, least=20, most=2048)


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
    CreateAccessKey=users.create_access_key,
    ListAccessKeys=users.list_access_keys,
    UpdateAccessKey=users.update_access_key,
    DeleteAccessKey=users.delete_access_key,
    GetLoginProfile=absent.no_login_profile,
    DeleteLoginProfile=absent.no_login_profile,
    **tag_operations("User", users.named),
    **absent.OF_USERS,
)
_add(_all("user"), ListUsers=users.list_users)
_add(_anything, GetAccessKeyLastUsed=users.get_access_key_last_used)
_add(
    _entity(UserRow, "UserName"),
    **MemberPolicies(UserRow, "User").operations(),
    **boundary_operations("User", users.named),
    ListGroupsForUser=groups.list_groups_for_user,
)
_add(
    _entity(GroupRow, "GroupName"),
    **MemberPolicies(GroupRow, "Group").operations(),
    CreateGroup=groups.create_group,
    GetGroup=groups.get_group,
    UpdateGroup=groups.update_group,
    DeleteGroup=groups.delete_group,
    AddUserToGroup=groups.add_user_to_group,
    RemoveUserFromGroup=groups.remove_user_from_group,
)
_add(_all("group"), ListGroups=groups.list_groups)
_add(
    _entity(RoleRow, "RoleName"),
    **MemberPolicies(RoleRow, "Role").operations(),
    CreateRole=roles.create_role,
    GetRole=roles.get_role,
    UpdateRole=roles.update_role,
    UpdateRoleDescription=roles.update_role_description,
    UpdateAssumeRolePolicy=roles.update_assume_role_policy,
    DeleteRole=roles.delete_role,
    ListInstanceProfilesForRole=roles.list_instance_profiles_for_role,
    **tag_operations("Role", roles.named),
    **boundary_operations("Role", roles.named),
)
_add(_all("role"), ListRoles=roles.list_roles)
_add(_entity(PolicyRow, "PolicyName"), CreatePolicy=managed_policies.create_policy)
_add(
    _given("PolicyArn"),
    GetPolicy=managed_policies.get_policy,
    DeletePolicy=managed_policies.delete_policy,
    CreatePolicyVersion=managed_policies.create_policy_version,
    GetPolicyVersion=managed_policies.get_policy_version,
    ListPolicyVersions=managed_policies.list_policy_versions,
    DeletePolicyVersion=managed_policies.delete_policy_version,
    SetDefaultPolicyVersion=managed_policies.set_default_policy_version,
    ListEntitiesForPolicy=managed_policies.list_entities_for_policy,
    **tag_operations("Policy", managed_policies.own),
)
_add(_all("policy"), ListPolicies=managed_policies.list_policies)
_add(
    _given("OpenIDConnectProviderArn"),
    GetOpenIDConnectProvider=providers.get_provider,
    DeleteOpenIDConnectProvider=providers.delete_provider,
    AddClientIDToOpenIDConnectProvider=providers.add_client_id,
    RemoveClientIDFromOpenIDConnectProvider=providers.remove_client_id,
    UpdateOpenIDConnectProviderThumbprint=providers.update_thumbprints,
    **tag_operations("OpenIDConnectProvider", providers.named),
)
_add(
    _all("oidc-provider"),
    CreateOpenIDConnectProvider=providers.create_provider,
    ListOpenIDConnectProviders=providers.list_providers,
)
_add(_anything, GetAccountSummary=providers.get_account_summary, **absent.OF_ACCOUNTS)
