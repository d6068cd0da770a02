"""Accounts and their S3 access keys, over the catalog."""

import re
import string
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from chain.clock import Clock, Entropy
from gateway.catalog.interface import (
    Batch,
    Catalog,
    CatalogUnavailable,
    Change,
    Condition,
    Conflict,
    Delete,
    Empty,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.errors import SlowDown
from gateway.iam.principals import user_identity
from gateway.iam.rows import iam_prefix
from gateway.keys import AccountKeys, KeyRing
from gateway.listing import after_prefix
from gateway.model import Account, Credential
from gateway.records import (
    AccessKeyRow,
    AccountRow,
    decode,
    decode_kept,
    encode,
    kms_prefix,
    owned_prefix,
)
from gateway.store import account_of
from gateway.transaction import ATTEMPTS, unavailable

NAME_BYTES = 128
ID_MAX = 128
EMAIL_MAX = 254
ACCOUNTS_MAX = 100_000
KEYS_MAX = 1_000_000
_ID = re.compile(r"[!-~]{1,128}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._-]{3,128}")
_SECRET = re.compile(r"[!-~]{8,128}")
_UPPER = string.ascii_uppercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits + "+/"


class InvalidAccount(ValueError):
    """A name, id, email or key that breaks the rules; the message says which."""


class AccountExists(Exception):
    """The id or the access key is taken."""


class NoSuchAccount(Exception):
    """No account of this id."""


class AccountInUse(Exception):
    """An account with buckets is not deleted."""


class AccountService:
    """Creates, finds and changes accounts. An access key names exactly one account."""

    def __init__(self, catalog: Catalog, keys: KeyRing, *, clock: Clock, entropy: Entropy) -> None:
        self._catalog = catalog
        self._keys = keys
        self._clock = clock
        self._entropy = entropy

    async def create(
        self,
        name: str,
        *,
        id: str = "",
        email: str = "",
        access_key: str = "",
        secret_key: str = "",
    ) -> Credential:
        """Make an account with one key pair; what is not given is generated.

        Raises InvalidAccount, AccountExists.
        """
        account = Account(id or self._entropy(32).hex(), name, email)
        _check(account)
        credential = self._credential(account, access_key, secret_key)
        keys = self._keys.new_owner()
        row = AccountRow(account.id, name, email, self._clock.now_ns(), keys.owner, keys.capsules)
        place, access = account.id.encode(), credential.access_key.encode()
        await self._commit(
            [Equals(Space.ACCOUNTS, place, None), Equals(Space.ACCESS_KEYS, access, None)],
            [
                Put(Space.ACCOUNTS, place, encode(row)),
                Put(Space.ACCESS_KEYS, access, self._key_row(credential)),
            ],
        )
        return credential

    async def bootstrap(
        self,
        name: str,
        *,
        access_key: str = "",
        secret_key: str = "",
        id: str = "",
    ) -> Credential:
        """The first account: made when there is none; given keys replace its keys at any start."""
        with self._catalog.read() as reader:
            existing = _scan(reader, 1)
        if not existing:
            return await self.create(name, id=id, access_key=access_key, secret_key=secret_key)
        first = self.first()
        assert first is not None
        current = self.credentials(first.id)
        given = [c for c in current if c.access_key == access_key and c.secret_key == secret_key]
        if current and (given or not access_key):
            return (given or current)[0]
        return await self.rotate_access_keys(first.id, access_key=access_key, secret_key=secret_key)

    def first(self) -> Account | None:
        """The oldest account: the network's owner; None before there is one."""
        rows = [(decode(AccountRow, raw).created_ns, raw) for _, raw in self._all()]
        return account_of(min(rows)[1]) if rows else None

    def show(self, account_id: str) -> Account:
        """Raises NoSuchAccount."""
        with self._catalog.read() as reader:
            return account_of(_row(reader, account_id))

    def accounts(self) -> list[Account]:
        """All accounts by id."""
        return [account_of(raw) for _, raw in self._all()]

    def credential(self, access_key: str) -> Credential | None:
        """Who has this access key; None if nobody, or if it is switched off.

        Read from the index, so never stale: two rows, and those of a user with its policies.
        """
        key = access_key.encode("utf-8", "replace")
        if not 0 < len(key) <= 128:
            return None
        with self._catalog.read() as reader:
            raw = reader.get(Space.ACCESS_KEYS, key)
            if raw is None:
                return None
            row = decode_kept(AccessKeyRow, raw)
            account = reader.get(Space.ACCOUNTS, row.account.encode())
            if account is None or not row.active:
                return None
            if not row.user:
                return _credential_of(access_key, raw, account)
            identity = user_identity(reader, row.account, row.user)
        if identity is None:
            return None
        return Credential(access_key, row.secret, account_of(account), identity)

    def credentials(self, account_id: str) -> list[Credential]:
        """An account's own key pairs, not its users'. Raises NoSuchAccount."""
        with self._catalog.read() as reader:
            account = account_of(_row(reader, account_id))
            rows = reader.scan(Space.ACCESS_KEYS, b"\x00", None, KEYS_MAX)
        decoded = ((key.decode(), decode(AccessKeyRow, raw)) for key, raw in rows)
        return [
            Credential(access, row.secret, account)
            for access, row in decoded
            if row.account == account_id and not row.user
        ]

    async def rotate_access_keys(
        self, account_id: str, *, access_key: str = "", secret_key: str = ""
    ) -> Credential:
        """Replace all of an account's own key pairs by one. Raises NoSuchAccount, AccountExists."""
        account = self.show(account_id)
        credential = self._credential(account, access_key, secret_key)
        new = credential.access_key.encode()
        for _ in range(ATTEMPTS):
            with self._catalog.read() as reader:
                raw = _row(reader, account_id)
                taken = reader.get(Space.ACCESS_KEYS, new)
            if taken is not None and not _is_own(taken, account_id):
                raise AccountExists("the access key belongs to another account, or to a user")
            old = [c.access_key.encode() for c in self.credentials(account_id)]
            changes = [Delete(Space.ACCESS_KEYS, key) for key in old if key != new]
            try:
                await self._commit(
                    [
                        Equals(Space.ACCOUNTS, account_id.encode(), raw),
                        Equals(Space.ACCESS_KEYS, new, taken),
                    ],
                    [*changes, Put(Space.ACCESS_KEYS, new, self._key_row(credential))],
                )
            except AccountExists:
                continue
            return credential
        raise SlowDown

    async def rotate_encryption_key(self, account_id: str) -> int:
        """Add a generation of the account's key-encryption key; returns its number.

        New versions are wrapped under it; older ones stay readable under theirs.
        """
        for _ in range(ATTEMPTS):
            with self._catalog.read() as reader:
                raw = _row(reader, account_id)
            row = decode(AccountRow, raw)
            keys = self._keys.rotate(AccountKeys(row.owner, row.capsules))
            changed = msgspec.structs.replace(row, capsules=keys.capsules)
            place = account_id.encode()
            try:
                await self._commit(
                    [Equals(Space.ACCOUNTS, place, raw)],
                    [Put(Space.ACCOUNTS, place, encode(changed))],
                )
            except AccountExists:
                continue
            return keys.generation
        raise SlowDown

    async def delete(self, account_id: str) -> None:
        """Remove an account without buckets, its users and all keys.

        Raises AccountInUse, NoSuchAccount.
        """
        prefix = owned_prefix(account_id)
        with self._catalog.read() as reader:
            raw = _row(reader, account_id)
            if reader.scan(Space.OWNED, prefix, after_prefix(prefix), 1):
                raise AccountInUse("the account has buckets: delete them first")
            keys = [
                key
                for key, row in reader.scan(Space.ACCESS_KEYS, b"\x00", None, KEYS_MAX)
                if decode(AccessKeyRow, row).account == account_id
            ]
            iam = iam_prefix(account_id)
            entities = reader.scan(Space.META, iam, after_prefix(iam), KEYS_MAX)
            kms = kms_prefix(account_id)
            secrets = reader.scan(Space.META, kms, after_prefix(kms), KEYS_MAX)
        try:
            await self._commit(
                [Equals(Space.ACCOUNTS, account_id.encode(), raw), Empty(Space.OWNED, prefix)],
                [
                    Delete(Space.ACCOUNTS, account_id.encode()),
                    *(Delete(Space.ACCESS_KEYS, key) for key in keys),
                    *(Delete(Space.META, key) for key, _ in (*entities, *secrets)),
                ],
            )
        except AccountExists:
            raise AccountInUse("the account changed meanwhile: try again") from None

    def _credential(self, account: Account, access_key: str, secret_key: str) -> Credential:
        if bool(access_key) != bool(secret_key):
            raise InvalidAccount("give both an access key and a secret key, or neither")
        if access_key:
            if not _ACCESS_KEY.fullmatch(access_key):
                raise InvalidAccount("an access key has 3 to 128 letters, digits, '.', '_', '-'")
            if not _SECRET.fullmatch(secret_key):
                raise InvalidAccount("a secret key has 8 to 128 printable ASCII characters")
            return Credential(access_key, secret_key, account)
        return Credential(*new_pair(self._entropy), account)

    def _key_row(self, credential: Credential) -> bytes:
        return encode(
            AccessKeyRow(credential.account.id, credential.secret_key, self._clock.now_ns())
        )

    def _all(self) -> list[tuple[bytes, bytes]]:
        with self._catalog.read() as reader:
            return _scan(reader, ACCOUNTS_MAX)

    async def _commit(self, conditions: Sequence[Condition], changes: Sequence[Change]) -> None:
        try:
            await self._catalog.commit(Batch(conditions, changes))
        except Conflict as conflict:
            raise AccountExists("the id or the access key is taken") from conflict
        except CatalogUnavailable as error:
            raise unavailable(error) from error


def new_pair(entropy: Entropy, kind: str = "AKIA") -> tuple[str, str]:
    """An access key and a secret as AWS writes them; a session's access key has another `kind`."""
    # Four letters and 16 of base32's; 40 of base64's. No bias: 32 and 64.
    access = kind + "".join(_UPPER[byte & 31] for byte in entropy(16))
    secret = "".join(_SECRET_ALPHABET[byte & 63] for byte in entropy(40))
    return access, secret


@lru_cache(maxsize=1024)
def _credential_of(access_key: str, key_row: bytes, account: bytes) -> Credential:
    """A key pair from its row and its account's row."""
    return Credential(access_key, decode(AccessKeyRow, key_row).secret, account_of(account))


def _is_own(key_row: bytes, account_id: str) -> bool:
    """Whether an access key is an account's own and not a user's."""
    row = decode(AccessKeyRow, key_row)
    return row.account == account_id and not row.user


def _scan(reader: Reader, limit: int) -> list[tuple[bytes, bytes]]:
    return reader.scan(Space.ACCOUNTS, b"\x00", None, limit)


def _row(reader: Reader, account_id: str) -> bytes:
    key = account_id.encode("utf-8", "replace")
    raw = reader.get(Space.ACCOUNTS, key) if 0 < len(key) <= ID_MAX else None
    if raw is None:
        raise NoSuchAccount(f"no account {account_id!r:.80}")
    return raw


def _check(account: Account) -> None:
    size = len(account.name.encode("utf-8", "replace"))
    if not 0 < size <= NAME_BYTES or not account.name.isprintable():
        raise InvalidAccount(f"a name has 1 to {NAME_BYTES} bytes of printable text")
    if not _ID.fullmatch(account.id):
        raise InvalidAccount(f"an id has 1 to {ID_MAX} printable ASCII characters without spaces")
    if account.email and (len(account.email) > EMAIL_MAX or not _EMAIL.fullmatch(account.email)):
        raise InvalidAccount("not an email address")
