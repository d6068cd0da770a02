"""From rows to who acts: a user or a role with all policies that hold for it. Read at each request.

Rows hardly ever change, so an Identity is kept by their bytes: what is read is never stale, and
parsed once.
"""

from collections.abc import Iterable
from functools import lru_cache

from gateway.catalog.interface import Reader, Space
from gateway.iam.identity import Identity
from gateway.iam.managed import MANAGED
from gateway.iam.rows import GroupRow, Member, PolicyRow, RoleRow, UserRow, arn, place
from gateway.policy.document import Kind, Policy
from gateway.policy.kept import kept_policy
from gateway.records import decode_kept


def user_identity(reader: Reader, account: str, name: str) -> Identity | None:
    """A user by name in lower case; None if there is none."""
    raw = reader.get(Space.META, place(account, UserRow.kind, name))
    if raw is None:
        return None
    row = decode_kept(UserRow, raw)
    groups = tuple(
        group
        for one in row.groups
        if (group := reader.get(Space.META, place(account, GroupRow.kind, one))) is not None
    )
    members: list[Member] = [row, *(decode_kept(GroupRow, group) for group in groups)]
    named = (policy for member in members for policy in member.attached)
    return _user(account, raw, groups, _managed(reader, account, (*named, row.boundary)))


def role_policies(
    reader: Reader, account: str, row: RoleRow
) -> tuple[tuple[Policy, ...], tuple[tuple[Policy, ...], ...]]:
    """What a role's policies and boundary are now."""
    managed = dict(_managed(reader, account, (*row.attached, row.boundary)))
    return _policies([row], managed), _boundary(row.boundary, managed)


@lru_cache(maxsize=1024)
def _user(
    account: str, raw: bytes, groups: tuple[bytes, ...], managed: tuple[tuple[str, bytes], ...]
) -> Identity:
    row = decode_kept(UserRow, raw)
    documents = dict(managed)
    members: list[Member] = [row, *(decode_kept(GroupRow, group) for group in groups)]
    return Identity(
        "User",
        arn(account, row),
        row.id,
        row.name,
        policies=_policies(members, documents),
        limits=_boundary(row.boundary, documents),
        tags=row.tags,
    )


def _managed(reader: Reader, account: str, arns: Iterable[str]) -> tuple[tuple[str, bytes], ...]:
    """The documents of managed policies as they are now; one that is gone says nothing."""
    found = {}
    for one in arns:
        document = managed_document(reader, account, one) if one else None
        if document is not None:
            found[one] = document
    return tuple(found.items())


def managed_document(reader: Reader, account: str, policy: str) -> bytes | None:
    """The document of a managed policy's default version; None if there is no such policy."""
    if policy in MANAGED:
        return MANAGED[policy]
    name = policy.rpartition("/")[2]
    if not 0 < len(name) <= 128:
        return None
    raw = reader.get(Space.META, place(account, PolicyRow.kind, name))
    if raw is None:
        return None
    row = decode_kept(PolicyRow, raw)
    return row.document if arn(account, row) == policy else None


def _policies(members: Iterable[Member], managed: dict[str, bytes]) -> tuple[Policy, ...]:
    documents = [
        document
        for member in members
        for document in (
            *member.policies.values(),
            *(managed[one] for one in member.attached if one in managed),
        )
    ]
    return tuple(kept_policy(document, Kind.IDENTITY) for document in documents)


def _boundary(policy: str, managed: dict[str, bytes]) -> tuple[tuple[Policy, ...], ...]:
    """A boundary that is gone lets nothing through."""
    if not policy:
        return ()
    return ((kept_policy(managed[policy], Kind.IDENTITY),) if policy in managed else (),)
