"""The administration service of the catalog process: who may do what to accounts and buckets.

Served on the machine-local channel only: whoever can open `RUN/catalog.ipc` (mode 0700) owns the
network.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from chain.net.transport import Caller, Handlers, Message, Payload, RemoteError
from gateway.accounts import (
    AccountExists,
    AccountInUse,
    AccountService,
    InvalidAccount,
    NoSuchAccount,
)
from gateway.errors import InvalidArgument, StoreError
from gateway.ipfs.index.tokens import NoSuchToken, Token, Tokens
from gateway.ipfs.ipns.name import InvalidName, IpnsName
from gateway.ipfs.ipns.record import InvalidRecord
from gateway.ipfs.ipns.store import IpnsRecords, OldRecord
from gateway.kms import KmsKeys, canonical_id
from gateway.limits import LimitBook, Limits, Usage
from gateway.model import REPLICATION, Account, Attributes, Bucket, Credential, Extra
from gateway.protocol import (
    AccountCreated,
    AccountList,
    AccountRecord,
    AgainState,
    BucketSettings,
    Certificate,
    CreateAccount,
    CreateKmsKey,
    CreateToken,
    DeleteAccount,
    Done,
    FetchCertificate,
    ImportIpns,
    IpnsImported,
    KmsKeyList,
    KmsKeyRecord,
    LimitState,
    ListAccounts,
    ListKmsKeys,
    ListTokens,
    NetworkState,
    PublishState,
    ReplicateAgain,
    RevokeToken,
    RotateAccessKeys,
    RotateEncryptionKey,
    SetLimits,
    SetPublic,
    SetPublishing,
    ShowAccount,
    ShowBucket,
    ShowNetwork,
    ShowPublishing,
    SwitchKmsKey,
    TokenCreated,
    TokenList,
    TokenRecord,
)
from gateway.replication.again import Versions, replicate_again


class Buckets(Versions, Protocol):
    """The part of ObjectService that administration needs."""

    kms: KmsKeys
    limits: LimitBook

    def bucket(self, name: str) -> Bucket:
        """Raises NoSuchBucket."""
        ...

    async def configure_bucket(
        self, name: str, *, public: bool | None = None, publishes: bool | None = None
    ) -> Bucket:
        """Change a bucket's settings."""
        ...


# Bucket, prefix -> (CID of the directory or "", objects of the bucket, changes it lags behind).
PublishProgress = Callable[[Bucket, str], tuple[str, int, int]]
NetworkProbe = Callable[[], Awaitable[NetworkState]]
# (bucket, key) -> an ownership certificate. Raises StoreError, RemoteError.
Certifier = Callable[[str, str], Awaitable[bytes]]
Reply = TypeVar("Reply", bound=msgspec.Struct)

_CODES: dict[type[Exception], str] = {
    InvalidAccount: "InvalidArgument",
    AccountExists: "EntityAlreadyExists",
    NoSuchAccount: "NoSuchEntity",
    AccountInUse: "DeleteConflict",
    NoSuchToken: "NoSuchEntity",
    InvalidName: "InvalidArgument",
    InvalidRecord: "InvalidArgument",
    OldRecord: "EntityAlreadyExists",
}


class AdminService:
    """Answers the messages of gateway/protocol.py."""

    def __init__(
        self,
        accounts: AccountService,
        buckets: Buckets,
        tokens: Tokens,
        records: IpnsRecords,
        *,
        progress: PublishProgress,
        network: NetworkProbe,
        certify: Certifier,
    ) -> None:
        self._accounts = accounts
        self._buckets = buckets
        self._tokens = tokens
        self._records = records
        self._progress = progress
        self._network = network
        self._certify = certify

    def add_to(self, handlers: Handlers) -> Handlers:
        """Put every administration message in a service's table."""
        return (
            handlers.on(CreateAccount, _guarded(self._create))
            .on(ListAccounts, _guarded(self._list))
            .on(ShowAccount, _guarded(self._show))
            .on(RotateAccessKeys, _guarded(self._rotate_access))
            .on(RotateEncryptionKey, _guarded(self._rotate_encryption))
            .on(DeleteAccount, _guarded(self._delete))
            .on(ListKmsKeys, _guarded(self._kms_keys))
            .on(CreateKmsKey, _guarded(self._create_kms_key))
            .on(SwitchKmsKey, _guarded(self._switch_kms_key))
            .on(SetLimits, _guarded(self._set_limits))
            .on(ReplicateAgain, _guarded(self._replicate_again))
            .on(SetPublic, _guarded(self._set_public))
            .on(ShowBucket, _guarded(self._show_bucket))
            .on(SetPublishing, _guarded(self._set_publishing))
            .on(ShowPublishing, _guarded(self._show_publishing))
            .on(CreateToken, _guarded(self._create_token))
            .on(ListTokens, _guarded(self._list_tokens))
            .on(RevokeToken, _guarded(self._revoke_token))
            .on(ImportIpns, _guarded(self._import_ipns))
            .on(ShowNetwork, _guarded(self._show_network))
            .on(FetchCertificate, _guarded(self._certificate))
        )

    # ------------------------------------------------------------------ accounts
    async def _create(self, message: CreateAccount) -> AccountCreated:
        made = await self._accounts.create(
            message.name,
            id=message.id,
            email=message.email,
            access_key=message.access_key,
            secret_key=message.secret_key,
        )
        return _created(made)

    async def _list(self, _: ListAccounts) -> AccountList:
        found = sorted(self._accounts.accounts(), key=lambda account: (account.name, account.id))
        return AccountList([_record(account, []) for account in found])

    async def _show(self, message: ShowAccount) -> AccountRecord:
        account = self._find(message.account)
        keys = [credential.access_key for credential in self._accounts.credentials(account.id)]
        return _record(account, keys)

    async def _rotate_access(self, message: RotateAccessKeys) -> AccountCreated:
        return _created(await self._accounts.rotate_access_keys(self._find(message.account).id))

    async def _rotate_encryption(self, message: RotateEncryptionKey) -> Done:
        await self._accounts.rotate_encryption_key(self._find(message.account).id)
        return Done()

    async def _delete(self, message: DeleteAccount) -> Done:
        await self._accounts.delete(self._find(message.account).id)
        return Done()

    async def _kms_keys(self, message: ListKmsKeys) -> KmsKeyList:
        found = self._buckets.kms.all(self._find(message.account))
        return KmsKeyList([KmsKeyRecord(key.id, key.created_ns, key.disabled) for key in found])

    async def _create_kms_key(self, message: CreateKmsKey) -> Done:
        account = self._find(message.account)
        await self._buckets.kms.create(account, canonical_id(message.key, account.id))
        return Done()

    async def _switch_kms_key(self, message: SwitchKmsKey) -> Done:
        account = self._find(message.account)
        key_id = canonical_id(message.key, account.id)
        await self._buckets.kms.switch(account, key_id, disabled=message.disabled)
        return Done()

    def _find(self, word: str) -> Account:
        """An account by id, access key, or a name that only one has. Raises NoSuchAccount."""
        try:
            return self._accounts.show(word)
        except NoSuchAccount:
            credential = self._accounts.credential(word)
        if credential is not None:
            return credential.account
        named = [account for account in self._accounts.accounts() if account.name == word]
        if len(named) > 1:
            raise InvalidAccount(f"{len(named)} accounts have the name {word!r:.80}: give the id")
        if not named:
            raise NoSuchAccount(f"no account {word!r:.80}")
        return named[0]

    # ------------------------------------------------------------------ buckets
    async def _set_limits(self, message: SetLimits) -> LimitState:
        if any(value is not None and value < 0 for value in (message.bytes, message.requests)):
            raise InvalidArgument("a limit is a number from 0; 0 is none")
        book = self._buckets.limits
        if message.bucket:
            bucket = self._buckets.bucket(message.bucket)
            await book.set_bucket(bucket, _changed(book.bucket(bucket), message))
            usage = book.bucket(self._buckets.bucket(message.bucket))
        else:
            account = self._find(message.account)
            await book.set_account(account, _changed(book.account(account), message))
            usage = book.account(account)
        return LimitState(usage.limits.bytes, usage.limits.requests, usage.used)

    async def _replicate_again(self, message: ReplicateAgain) -> AgainState:
        bucket = self._buckets.bucket(message.bucket)
        if REPLICATION not in bucket.settings:
            raise InvalidArgument("the bucket has no replication")
        done = await replicate_again(self._buckets, bucket, everything=message.everything)
        return AgainState(done.queued, done.failed)

    async def _set_public(self, message: SetPublic) -> BucketSettings:
        return _settings(await self._buckets.configure_bucket(message.bucket, public=message.on))

    async def _show_bucket(self, message: ShowBucket) -> BucketSettings:
        return _settings(self._buckets.bucket(message.bucket))

    async def _set_publishing(self, message: SetPublishing) -> PublishState:
        if not message.key:
            bucket = await self._buckets.configure_bucket(message.bucket, publishes=message.on)
            return self._publish_state(bucket, "")

        def switched(attributes: Attributes) -> Attributes:
            extra = msgspec.structs.replace(attributes.extra or Extra(), published=message.on)
            return msgspec.structs.replace(attributes, extra=extra)

        bucket = self._buckets.bucket(message.bucket)
        await self._buckets.amend(bucket, message.key, None, switched)
        return self._publish_state(bucket, message.key)

    async def _show_publishing(self, message: ShowPublishing) -> PublishState:
        return self._publish_state(self._buckets.bucket(message.bucket), message.key)

    def _publish_state(self, bucket: Bucket, key: str) -> PublishState:
        if not key or key.endswith("/"):
            cid, objects, pending = self._progress(bucket, key)
            return PublishState(bucket.name, bucket.publishes, cid, objects, pending, key)
        version = self._buckets.head(bucket, key)
        publishes = version.attributes.published(bucket)
        done = version.cid is not None
        waits = publishes and not done
        return PublishState(bucket.name, publishes, version.cid or "", int(done), int(waits), key)

    # ------------------------------------------------------------------ tokens
    async def _create_token(self, message: CreateToken) -> TokenCreated:
        bucket = self._buckets.bucket(message.bucket) if message.bucket else None
        if bucket is not None and not bucket.publishes:
            raise InvalidArgument(f"bucket {bucket.name} does not publish to IPFS")
        token, text = await self._tokens.create(bucket)
        return TokenCreated(_token(token), text)

    async def _list_tokens(self, _: ListTokens) -> TokenList:
        return TokenList([_token(token) for token in self._tokens.all()])

    async def _revoke_token(self, message: RevokeToken) -> Done:
        try:
            await self._tokens.revoke(message.id)
        except NoSuchToken:
            raise NoSuchToken(f"no token {message.id!r:.80}") from None
        return Done()

    async def _import_ipns(self, message: ImportIpns) -> IpnsImported:
        name = IpnsName.parse(message.name)
        try:
            kept = await self._records.put(name, bytes(message.record.buffer))
        except OldRecord:
            raise OldRecord(f"a newer record of {name} is kept here already") from None
        return IpnsImported(str(name), kept.value, kept.sequence, kept.eol_ns)

    # ------------------------------------------------------------------ the network
    async def _show_network(self, _: ShowNetwork) -> NetworkState:
        return await self._network()

    async def _certificate(self, message: FetchCertificate) -> Certificate:
        return Certificate(Payload(await self._certify(message.bucket, message.key)))


def _guarded(
    method: Callable[[Any], Awaitable[Reply]],
) -> Callable[[Any, Caller], Awaitable[Reply]]:
    """A handler for local callers whose errors are a code and one sentence."""

    async def handle(message: Message[Any], caller: Caller) -> Reply:
        if not caller.local:
            raise RemoteError("AccessDenied", "administration is machine-local")
        try:
            return await method(message)
        except StoreError as error:
            raise RemoteError(error.code, error.text) from None
        except tuple(_CODES) as error:
            raise RemoteError(_CODES[type(error)], str(error)) from None

    return handle


def _record(account: Account, keys: list[str]) -> AccountRecord:
    return AccountRecord(account.id, account.name, account.email, keys)


def _created(credential: Credential) -> AccountCreated:
    return AccountCreated(
        _record(credential.account, [credential.access_key]),
        credential.access_key,
        credential.secret_key,
    )


def _token(token: Token) -> TokenRecord:
    return TokenRecord(token.id, token.bucket, token.created_ns)


def _changed(usage: Usage, message: SetLimits) -> Limits:
    size, requests = message.bytes, message.requests
    return Limits(
        usage.limits.bytes if size is None else size,
        usage.limits.requests if requests is None else requests,
    )


def _settings(bucket: Bucket) -> BucketSettings:
    return BucketSettings(bucket.name, bucket.owner.id, bucket.public, bucket.publishes)
