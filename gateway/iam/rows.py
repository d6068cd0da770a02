"""What IAM keeps in catalog rows, and the ARNs of it. See docs/specs/iam.md."""

import string
from typing import ClassVar

import msgspec

from chain.clock import Entropy
from gateway.records import Row

_UPPER = string.ascii_uppercase + "234567"


class Entity(Row, frozen=True, array_like=True):
    """What every entity of an account begins with. META: `place` -> the row."""

    id: str  # unique for ever: a name may come back, an id does not
    name: str
    path: str  # / or /…/
    created_ns: int

    kind: ClassVar[str] = ""
    id_prefix: ClassVar[str] = ""


class Member(Entity, frozen=True, array_like=True):
    """What has policies: a user, a group, a role."""

    policies: dict[str, bytes] = msgspec.field(default_factory=dict)  # inline: name -> document
    attached: tuple[str, ...] = ()  # ARNs of managed policies


class UserRow(Member, frozen=True, array_like=True):
    """A user."""

    boundary: str = ""  # ARN of a managed policy
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    groups: tuple[str, ...] = ()  # lower-case names
    keys: tuple[str, ...] = ()  # access keys, oldest first

    kind: ClassVar[str] = "user"
    id_prefix: ClassVar[str] = "AIDA"


class GroupRow(Member, frozen=True, array_like=True):
    """A group of users."""

    members: tuple[str, ...] = ()  # lower-case names

    kind: ClassVar[str] = "group"
    id_prefix: ClassVar[str] = "AGPA"


class RoleRow(Member, frozen=True, array_like=True):
    """A role that who is trusted may assume."""

    boundary: str = ""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    trust: bytes = b""
    description: str = ""
    session_seconds: int = 3600  # the longest session

    kind: ClassVar[str] = "role"
    id_prefix: ClassVar[str] = "AROA"


class PolicyVersion(Row, frozen=True, array_like=True):
    """One version of a managed policy."""

    number: int
    created_ns: int
    document: bytes


class PolicyRow(Entity, frozen=True, array_like=True):
    """A managed policy of an account."""

    updated_ns: int = 0
    description: str = ""
    versions: tuple[PolicyVersion, ...] = ()
    default: int = 1
    last: int = 1  # the highest number that was ever given
    attachments: int = 0
    boundaries: int = 0
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    kind: ClassVar[str] = "policy"
    id_prefix: ClassVar[str] = "ANPA"

    @property
    def document(self) -> bytes:
        """Of the default version."""
        return next(one.document for one in self.versions if one.number == self.default)


class ProviderRow(Entity, frozen=True, array_like=True):
    """An OpenID Connect issuer that an account trusts; `name` is its URL without scheme."""

    url: str = ""
    audiences: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    kind: ClassVar[str] = "oidc-provider"


def iam_prefix(account: str) -> bytes:
    """META: where all entities of an account are."""
    return b"iam/" + account.encode() + b"\x00"


def prefix(account: str, kind: str) -> bytes:
    """META: where an account's entities of one kind are, in order of lower-case names."""
    return iam_prefix(account) + kind.encode() + b"/"


def place(account: str, kind: str, name: str) -> bytes:
    """The key of one row: names differ by more than case."""
    return prefix(account, kind) + name.lower().encode()


def arn(account: str, row: Entity) -> str:
    """The ARN of an entity."""
    return arn_of(account, row.kind, row.path, row.name)


def arn_of(account: str, kind: str, path: str, name: str) -> str:
    """The ARN of an entity by its parts."""
    return f"arn:aws:iam::{account}:{kind}{path}{name}"


def root_arn(account: str) -> str:
    """The ARN of an account itself."""
    return f"arn:aws:iam::{account}:root"


def session_arn(account: str, role: str, session: str) -> str:
    """The ARN of a session of a role, by their names."""
    return f"arn:aws:sts::{account}:assumed-role/{role}/{session}"


def new_id(kind: str, entropy: Entropy) -> str:
    """An id as AWS writes them: four letters for the kind and 17 of base32."""
    return kind + "".join(_UPPER[byte & 31] for byte in entropy(17))
