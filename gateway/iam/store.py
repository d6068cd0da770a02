"""An account's entities over the catalog: one snapshot to look at, one commit to change them.

What a change has read is a condition of its commit; overtaken, it is made again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from gateway.catalog.interface import (
    Batch,
    Catalog,
    CatalogUnavailable,
    Change,
    Condition,
    Conflict,
    Delete,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.errors import SlowDown
from gateway.iam.errors import EntityAlreadyExists, NoSuchEntity
from gateway.iam.rows import Entity, place, prefix
from gateway.listing import after_prefix
from gateway.records import AccessKeyRow, decode, decode_kept, encode
from gateway.transaction import ATTEMPTS, unavailable

R = TypeVar("R", bound=Entity)
T = TypeVar("T")
ENTITIES_MAX = 20_000  # of one kind and account
_WORDS = {"oidc-provider": "OpenIDConnect Provider"}


class View:
    """An account's entities in one snapshot, and what is to be changed of them."""

    def __init__(self, reader: Reader, account: str) -> None:
        self.reader = reader
        self.account = account
        self._conditions: dict[tuple[Space, bytes], bytes | None] = {}
        self._changes: dict[tuple[Space, bytes], bytes | None] = {}

    # ------------------------------------------------------------------ entities
    def find(self, kind: type[R], name: str) -> R | None:
        """The entity of this name, in any case; None if there is none."""
        raw = self._get(Space.META, place(self.account, kind.kind, name))
        return None if raw is None else decode_kept(kind, raw)

    def get(self, kind: type[R], name: str) -> R:
        """Raises NoSuchEntity."""
        row = self.find(kind, name)
        if row is None:
            word = _WORDS.get(kind.kind, kind.kind)
            raise NoSuchEntity(f"The {word} with name {name} cannot be found.")
        return row

    def all(self, kind: type[R]) -> Iterator[R]:
        """All entities of a kind by lower-case name; a change does not depend on them."""
        start = prefix(self.account, kind.kind)
        for _, raw in self.reader.scan(Space.META, start, after_prefix(start), ENTITIES_MAX):
            yield decode(kind, raw)

    def page(self, kind: type[R], after: str, limit: int) -> list[R]:
        """Up to `limit` entities behind a lower-case name."""
        start = prefix(self.account, kind.kind)
        first = start + after.encode() + b"\x00" if after else start
        rows = self.reader.scan(Space.META, first, after_prefix(start), limit)
        return [decode(kind, raw) for _, raw in rows]

    def put(self, row: Entity) -> None:
        """Set an entity that was looked for before."""
        self._changes[Space.META, place(self.account, row.kind, row.name)] = encode(row)

    def make(self, row: Entity) -> None:
        """Set an entity that must be new. Raises EntityAlreadyExists."""
        if self.find(type(row), row.name) is not None:
            word = _WORDS.get(row.kind, row.kind).capitalize()
            raise EntityAlreadyExists(f"{word} with name {row.name} already exists.")
        self.put(row)

    def delete(self, row: Entity) -> None:
        """Remove an entity."""
        self._changes[Space.META, place(self.account, row.kind, row.name)] = None

    # ------------------------------------------------------------------ access keys
    def key(self, access_key: str) -> AccessKeyRow | None:
        """An access key of this account; None if it has not got it."""
        row = self.any_key(access_key)
        return row if row is not None and row.account == self.account else None

    def any_key(self, access_key: str) -> AccessKeyRow | None:
        """An access key of anybody."""
        raw = self._get(Space.ACCESS_KEYS, access_key.encode())
        return None if raw is None else decode_kept(AccessKeyRow, raw)

    def root_keys(self) -> list[tuple[str, AccessKeyRow]]:
        """The access keys of the account itself."""
        rows = self.reader.scan(Space.ACCESS_KEYS, b"\x00", None, 1 << 20)
        found = ((key.decode(), decode(AccessKeyRow, raw)) for key, raw in rows)
        return [(key, row) for key, row in found if row.account == self.account and not row.user]

    def put_key(self, access_key: str, row: AccessKeyRow) -> None:
        """Set an access key that was looked for before."""
        self._changes[Space.ACCESS_KEYS, access_key.encode()] = encode(row)

    def delete_key(self, access_key: str) -> None:
        """Remove an access key."""
        self._changes[Space.ACCESS_KEYS, access_key.encode()] = None

    # ------------------------------------------------------------------ the commit
    def batch(self) -> Batch | None:
        """What to commit; None if nothing is changed."""
        if not self._changes:
            return None
        held = self._get(Space.ACCOUNTS, self.account.encode())  # an account may be going
        if held is None:
            raise NoSuchEntity("The account cannot be found.")
        conditions: list[Condition] = [
            Equals(space, key, value) for (space, key), value in self._conditions.items()
        ]
        changes: list[Change] = [
            Delete(space, key) if value is None else Put(space, key, value)
            for (space, key), value in self._changes.items()
        ]
        return Batch(conditions, changes)

    def _get(self, space: Space, key: bytes) -> bytes | None:
        named = (space, key)
        if named in self._changes:
            return self._changes[named]
        if named not in self._conditions:
            self._conditions[named] = self.reader.get(space, key)
        return self._conditions[named]


class IamStore:
    """Where views come from and changes go."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @contextmanager
    def view(self, account: str) -> Iterator[View]:
        """A snapshot; keep it for one page of work, never across an await."""
        with self._catalog.read() as reader:
            yield View(reader, account)

    async def run(self, account: str, work: Callable[[View], T]) -> T:
        """Do `work` on a snapshot and commit what it changed; again if it was overtaken.

        Raises what `work` raises, ServiceUnavailable, SlowDown.
        """
        for _ in range(ATTEMPTS):
            with self.view(account) as view:
                result = work(view)
                batch = view.batch()
            if batch is None:
                return result
            try:
                await self._catalog.commit(batch)
            except Conflict:
                continue
            except CatalogUnavailable as error:
                raise unavailable(error) from error
            return result
        raise SlowDown
