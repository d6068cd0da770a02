"""Inline and attached policies of users, groups and roles: one set of operations for all three.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutUserPolicy.html
"""

from collections.abc import Callable

import msgspec

from gateway.iam.call import Call, Result, paged
from gateway.iam.errors import LimitExceeded, NoSuchEntity
from gateway.iam.managed_policies import count_attachment, policy_arn
from gateway.iam.reply import encoded
from gateway.iam.rows import GroupRow, Member, RoleRow, UserRow
from gateway.policy.document import Kind

# Characters of one inline policy, without white space. AWS counts all of a member's together.
SIZES = {UserRow: 2048, GroupRow: 5120, RoleRow: 10240}
ATTACHED_MAX = 20
Operation = Callable[[Call], Result]


class MemberPolicies:
    """The operations on the policies of one kind of member (`noun`: as operations name it)."""

    def __init__(self, kind: type[Member], noun: str) -> None:
        self._kind = kind
        self._noun = noun
        self._field = f"{noun}Name"

    def operations(self) -> dict[str, Operation]:
        """All of them by their names."""
        noun = self._noun
        return {
            f"Put{noun}Policy": self.put,
            f"Get{noun}Policy": self.get,
            f"Delete{noun}Policy": self.delete,
            f"List{noun}Policies": self.names,
            f"Attach{noun}Policy": self.attach,
            f"Detach{noun}Policy": self.detach,
            f"ListAttached{noun}Policies": self.attached,
        }

    def put(self, call: Call) -> Result:
        """Set an inline policy."""
        row, name, most = self._named(call), call.name("PolicyName"), SIZES[self._kind]
        document = call.document("PolicyDocument", Kind.IDENTITY, most)
        others = [one for other, one in row.policies.items() if other != name]
        if sum(len("".join(one.decode().split())) for one in (*others, document)) > most:
            raise LimitExceeded(
                f"Maximum policy size of {most} bytes exceeded for {row.kind} {row.name}"
            )
        policies = row.policies | {name: document}
        call.view.put(msgspec.structs.replace(row, policies=policies))
        return None

    def get(self, call: Call) -> Result:
        """An inline policy, byte for byte."""
        row, name = self._policy(call)
        document = encoded(row.policies[name])
        return {self._field: row.name, "PolicyName": name, "PolicyDocument": document}

    def delete(self, call: Call) -> Result:
        """Remove an inline policy."""
        row, name = self._policy(call)
        policies = {other: one for other, one in row.policies.items() if other != name}
        call.view.put(msgspec.structs.replace(row, policies=policies))
        return None

    def names(self, call: Call) -> Result:
        """A page of the inline policies' names."""
        found = list(self._named(call).policies)
        return paged(call, "PolicyNames", found, found)

    def attach(self, call: Call) -> Result:
        """Attach a managed policy; again is no error."""
        row, policy = self._named(call), policy_arn(call)
        if policy in row.attached:
            return None
        count_attachment(call, policy, 1)
        if len(row.attached) >= ATTACHED_MAX:
            raise LimitExceeded(f"Cannot exceed quota for PoliciesPer{self._noun}: {ATTACHED_MAX}")
        call.view.put(msgspec.structs.replace(row, attached=(*row.attached, policy)))
        return None

    def detach(self, call: Call) -> Result:
        """Detach a managed policy."""
        row, policy = self._named(call), policy_arn(call)
        if policy not in row.attached:
            raise NoSuchEntity(f"Policy {policy} was not found.")
        count_attachment(call, policy, -1)
        left = tuple(one for one in row.attached if one != policy)
        call.view.put(msgspec.structs.replace(row, attached=left))
        return None

    def attached(self, call: Call) -> Result:
        """A page of the attached policies."""
        row, start = self._named(call), call.path_prefix()
        arns = [one for one in row.attached if f"/{one.partition('/')[2]}".startswith(start)]
        named = [(one.rpartition("/")[2], one) for one in arns]
        return paged(
            call,
            "AttachedPolicies",
            [f"{name} {policy}" for name, policy in named],
            [{"PolicyName": name, "PolicyArn": policy} for name, policy in named],
        )

    def _named(self, call: Call) -> Member:
        return call.view.get(self._kind, call.name(self._field))

    def _policy(self, call: Call) -> tuple[Member, str]:
        row, name = self._named(call), call.name("PolicyName")
        if name not in row.policies:
            raise NoSuchEntity(f"The {row.kind} policy with name {name} cannot be found.")
        return row, name
