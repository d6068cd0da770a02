"""Administration: messages of people's commands to the catalog process (`ipc://RUN/catalog.ipc`).

Only machine-local callers are served; see gateway/admin.py. Names, ids and keys are checked there;
a refusal is a RemoteError whose code is an S3 error code.
"""

import msgspec

from chain.net.transport import Message, Payload


class AccountRecord(msgspec.Struct, frozen=True):
    """An account as its owner sees it. `access_keys` in order of making, without secrets."""

    id: str
    name: str
    email: str
    access_keys: list[str]


class AccountCreated(msgspec.Struct, frozen=True):
    """A new or renewed S3 key pair: the only time that the secret is shown."""

    account: AccountRecord
    access_key: str
    secret_key: str


class AccountList(msgspec.Struct, frozen=True):
    """All accounts by name, without their access keys."""

    accounts: list[AccountRecord]


class KmsKeyRecord(msgspec.Struct, frozen=True):
    """A KMS key of an account, without its bytes."""

    id: str
    created_ns: int
    disabled: bool


class KmsKeyList(msgspec.Struct, frozen=True):
    """An account's KMS keys by id."""

    keys: list[KmsKeyRecord]


class Done(msgspec.Struct, frozen=True):
    """It is done, durably."""


class BucketSettings(msgspec.Struct, frozen=True):
    """A bucket's switches."""

    name: str
    owner: str
    public: bool
    publishes: bool


class PublishState(msgspec.Struct, frozen=True):
    """How far publishing is, of a bucket, a prefix of it (`key` ends in a slash) or an object.

    `cid` is the directory's or object's, "" while not known. `objects` are those of the whole
    bucket.
    """

    name: str
    publishes: bool
    cid: str
    objects: int
    pending: int
    key: str = ""


class NetworkState(msgspec.Struct, frozen=True):
    """What the catalog process knows of the network. Bytes; price in units per GiB-month."""

    height: int
    price: int
    nodes: list["NodeState"]
    pending_fragments: int
    rebuilt_fragments: int
    crowded_fragments: int = 0
    jobs: list["JobState"] = []
    queues: list["QueueState"] = []


class JobState(msgspec.Struct, frozen=True):
    """A job of the background: its present or last pass, and what it ever did."""

    name: str
    began_ns: int
    ended_ns: int  # of the last pass that ended; 0: none yet
    done: int
    failures: int  # steps that failed one after the other
    error: str


class QueueState(msgspec.Struct, frozen=True):
    """What waits for a place outside: see gateway/events/queues.py."""

    kind: str  # notify, replicate
    name: str
    waiting: int
    done: int
    dropped: int


class NodeState(msgspec.Struct, frozen=True):
    """One node as its registry entry and its last answer tell."""

    kind: str  # chain, miner, edge
    name: str
    up: bool
    pledged: int = 0
    used: int = 0
    scrubbed_ns: int = 0  # end of a miner's last full scrub; 0: never
    damaged: int = 0  # fragments that its scrubs found damaged


class Certificate(msgspec.Struct, frozen=True):
    """An ownership certificate (docs/specs/certificate.md)."""

    document: Payload


class CreateAccount(Message[AccountCreated], frozen=True, array_like=True):
    """Make an account; empty `id`, `access_key`, `secret_key` are generated."""

    name: str
    id: str = ""
    email: str = ""
    access_key: str = ""
    secret_key: str = ""


class ListAccounts(Message[AccountList], frozen=True, array_like=True):
    """All accounts."""


class ShowAccount(Message[AccountRecord], frozen=True, array_like=True):
    """One account, by id, name or access key."""

    account: str


class RotateAccessKeys(Message[AccountCreated], frozen=True, array_like=True):
    """Replace all key pairs of an account with one new pair."""

    account: str


class RotateEncryptionKey(Message[Done], frozen=True, array_like=True):
    """Begin a new account key-encryption key; old objects are wrapped anew lazily."""

    account: str


class DeleteAccount(Message[Done], frozen=True, array_like=True):
    """Remove an account that owns no bucket."""

    account: str


class ListKmsKeys(Message[KmsKeyList], frozen=True, array_like=True):
    """An account's KMS keys."""

    account: str


class CreateKmsKey(Message[Done], frozen=True, array_like=True):
    """Make a KMS key unless it is there."""

    account: str
    key: str


class SwitchKmsKey(Message[Done], frozen=True, array_like=True):
    """Switch a KMS key off or on. Off, nothing that it encrypts is read or written."""

    account: str
    key: str
    disabled: bool


class LimitState(msgspec.Struct, frozen=True):
    """Limits (0: none) of a bucket or an account; the bytes it holds where they are counted."""

    bytes: int
    requests: int
    used: int | None


class SetLimits(Message[LimitState], frozen=True, array_like=True):
    """Set the limits of an account, or of a bucket; what is None stays as it is."""

    account: str
    bucket: str
    bytes: int | None
    requests: int | None


class AgainState(msgspec.Struct, frozen=True):
    """Versions that wait to be replicated again, and those that found no room."""

    queued: int
    failed: int


class ReplicateAgain(Message[AgainState], frozen=True, array_like=True):
    """Replicate a bucket's FAILED versions again; `everything`: those without a state, too."""

    bucket: str
    everything: bool


class SetPublic(Message[BucketSettings], frozen=True, array_like=True):
    """Switch anonymous read of a bucket."""

    bucket: str
    on: bool


class ShowBucket(Message[BucketSettings], frozen=True, array_like=True):
    """A bucket's switches."""

    bucket: str


class SetPublishing(Message[PublishState], frozen=True, array_like=True):
    """Switch IPFS publishing of a bucket, or of an object whatever its bucket does."""

    bucket: str
    on: bool
    key: str = ""


class ShowPublishing(Message[PublishState], frozen=True, array_like=True):
    """How far publishing is."""

    bucket: str
    key: str = ""


class TokenRecord(msgspec.Struct, frozen=True):
    """A token of the IPFS API, without its text. `bucket` "": the API's default bucket."""

    id: str
    bucket: str
    created_ns: int


class TokenCreated(msgspec.Struct, frozen=True):
    """A new token: the only time that its text is shown."""

    token: TokenRecord
    text: str


class TokenList(msgspec.Struct, frozen=True):
    """All tokens, oldest first."""

    tokens: list[TokenRecord]


class CreateToken(Message[TokenCreated], frozen=True, array_like=True):
    """Make a token of the IPFS API that writes to a bucket; "": to the API's default bucket."""

    bucket: str


class ListTokens(Message[TokenList], frozen=True, array_like=True):
    """All tokens of the IPFS API."""


class RevokeToken(Message[Done], frozen=True, array_like=True):
    """End a token."""

    id: str


class IpnsImported(msgspec.Struct, frozen=True):
    """The IPNS record that is kept now."""

    name: str
    value: str
    sequence: int
    eol_ns: int


class ImportIpns(Message[IpnsImported], frozen=True, array_like=True):
    """Keep a signed IPNS record of a name, so that this network serves the name."""

    name: str
    record: Payload


class ShowNetwork(Message[NetworkState], frozen=True, array_like=True):
    """The network's state."""


class FetchCertificate(Message[Certificate], frozen=True, array_like=True):
    """The ownership certificate of an object's latest version."""

    bucket: str
    key: str
