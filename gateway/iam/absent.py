"""What no user or account has here, for tools that look before they delete: empty lists.

`aws iam delete-user` of scripts and terraform's force_destroy ask for all of it.
"""

from collections.abc import Callable

from gateway.iam.call import Call, Result
from gateway.iam.errors import NoSuchEntity
from gateway.iam.rows import UserRow
from gateway.iam.users import own_name

_OF_USERS = {
    "ListMFADevices": "MFADevices",
    "ListSSHPublicKeys": "SSHPublicKeys",
    "ListSigningCertificates": "Certificates",
    "ListServiceSpecificCredentials": "ServiceSpecificCredentials",
}
_OF_ACCOUNTS = {
    "ListAccountAliases": "AccountAliases",
    "ListInstanceProfiles": "InstanceProfiles",
    "ListServerCertificates": "ServerCertificateMetadataList",
    "ListSAMLProviders": "SAMLProviderList",
    "ListVirtualMFADevices": "VirtualMFADevices",
}


def no_login_profile(call: Call) -> Result:
    """Users have no passwords."""
    row = call.view.get(UserRow, call.name("UserName"))
    raise NoSuchEntity(f"Login Profile for User {row.name} cannot be found.")


def _empty(field: str, *, of_user: bool) -> Callable[[Call], Result]:
    def listed(call: Call) -> Result:
        name = own_name(call) if of_user else ""
        if name:
            call.view.get(UserRow, name)
        return {field: [], "IsTruncated": False}

    return listed


OF_USERS = {name: _empty(field, of_user=True) for name, field in _OF_USERS.items()}
OF_ACCOUNTS = {name: _empty(field, of_user=False) for name, field in _OF_ACCOUNTS.items()}
