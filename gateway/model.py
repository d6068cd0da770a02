"""What the gateway speaks of: accounts, buckets, object versions, uploads, parts.

Plain values. How they are stored is docs/specs/catalog.md; who may see them is the front ends'
business.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

import msgspec

from gateway.iam.identity import Identity


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the store."""

    id: str  # canonical id: printable ASCII, unique
    name: str  # display name: printable, at most 128 bytes
    email: str = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """An S3 key pair: of an account itself, or of a user or session that acts for it."""

    access_key: str
    secret_key: str = field(repr=False)
    account: Account
    identity: Identity | None = None
    temporary: bool = False  # of a session


# Settings that every request to the bucket is judged by.
ACCESS_POLICY, ACCESS_BLOCK = "policy", "publicAccessBlock"
ACCESS_SETTINGS = frozenset({ACCESS_POLICY, ACCESS_BLOCK})
# Settings that every change of an object is told to.
NOTIFICATION, REPLICATION = "notification", "replication"
LOGGING, INVENTORY = "logging", "inventory"
WATCHING_SETTINGS = frozenset({NOTIFICATION, REPLICATION})
# And these, requests of others than its owner.
ACCESS_ACL, ACCESS_OWNERSHIP, ACCESS_PAYER = "acl", "ownershipControls", "requestPayment"
ACCESS_OF_OTHERS = ACCESS_SETTINGS | {ACCESS_ACL, ACCESS_OWNERSHIP, ACCESS_PAYER}

# Set before another account's object is stored: lists then read whole rows, for the owners.
FOREIGN = "owners"
# Set before an object of a storage class is stored: lists then read on to its name.
CLASSED = "classes"


# Set for the bucket, and for the account that owns it: gateway/limits.py.
BUCKET_LIMITS, ACCOUNT_LIMITS = "limits", "accountLimits"
LIMITING = frozenset({BUCKET_LIMITS, ACCOUNT_LIMITS})

# Bucket.versioning, in S3's words; "" is a bucket that never had any.
ENABLED, SUSPENDED = "Enabled", "Suspended"
# Objects of a bucket that has this setting can be locked.
OBJECT_LOCK = "object-lock"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket. `id` stays with its content; a deleted name may come back under another id."""

    name: str
    id: bytes  # 16 random bytes
    owner: Account
    created_ns: int
    region: str = ""  # as asked for at creation; "" is us-east-1
    public: bool = False  # open as a whole: anybody reads and lists everything
    publishes: bool = False  # gives its objects IPFS CIDs
    profile: str = ""  # erasure profile; "" is the network's default
    settings: frozenset[str] = frozenset()  # names of those it has: see ObjectService.setting
    guarded: bool = False  # has one of ACCESS_SETTINGS
    watched: bool = False  # has one of WATCHING_SETTINGS
    logged: bool = False  # has LOGGING
    limited: bool = False  # has one of LIMITING
    versioning: str = ""  # ENABLED, SUSPENDED or ""


class Algorithm(StrEnum):
    """Checksum algorithms by S3's names."""

    MD5 = "MD5"
    CRC32 = "CRC32"
    CRC32C = "CRC32C"
    CRC64NVME = "CRC64NVME"
    SHA1 = "SHA1"
    SHA256 = "SHA256"


class Checksum(msgspec.Struct, frozen=True):
    """A checksum that is kept with an object: digest bytes, not base64."""

    algorithm: Algorithm
    digest: bytes
    composite_parts: int = 0  # 0: FULL_OBJECT; else COMPOSITE over so many parts


class Digests(msgspec.Struct, frozen=True):
    """What the bytes of one body really hash to: every algorithm that was asked for."""

    size: int
    values: Mapping[Algorithm, bytes]


# Metadata that makes an object of a publishing bucket a pack of IPFS blocks: its bytes are a CAR.
IMPORT, CAR = "import", "car"
# Of Attributes.metadata (x-amz-meta-ipfs: publish): everybody may have the object by its CID.
IPFS, PUBLISH = "ipfs", "publish"

# Called when all bytes are in and before anything is visible; raises (BadDigest …) to refuse them.
Verifier = Callable[[Digests], None]


# Of Encryption.algorithm.
SSE_S3, SSE_C = "AES256", "SSE-C"
KMS_ALGORITHMS = ("aws:kms", "aws:kms:dsse")


class Encryption(msgspec.Struct, frozen=True, array_like=True):
    """What a client was promised of an object's encryption, beside the sealing all objects have."""

    algorithm: str  # AES256, aws:kms, aws:kms:dsse; SSE-C for a key of the client's
    key: str = ""  # KMS: the key's id. Of a client's key nothing is kept
    bucket_key: bool = False
    context: str = ""  # KMS: base64 as given

    @property
    def customer(self) -> bool:
        """Whether it takes a key of the client's to read the object."""
        return self.algorithm == SSE_C

    @property
    def second(self) -> bool:
        """Whether it takes a second key beside the account's own."""
        return self.algorithm != SSE_S3


class Lock(msgspec.Struct, frozen=True, array_like=True):
    """What keeps a version from being deleted."""

    mode: str = ""  # GOVERNANCE, COMPLIANCE, or none
    until_ns: int = 0
    hold: bool | None = None  # legal hold; None: nothing was said of it


class Extra(msgspec.Struct, frozen=True, array_like=True):
    """What few objects have. Stored as it is, fields are added at the end."""

    acl: bytes = b""  # as gateway/s3 packs it; empty: private
    encryption: Encryption | None = None
    lock: Lock | None = None
    replication: str = ""  # PENDING, COMPLETED, FAILED, REPLICA
    published: bool | None = None  # on IPFS or not, whatever bucket and metadata say


class Attributes(msgspec.Struct, frozen=True):
    """What a client says about an object, stored and echoed."""

    content_type: str = "binary/octet-stream"
    # cache-control, content-disposition, content-encoding, content-language, expires,
    # x-amz-website-redirect-location, x-amz-storage-class as given: lower-case name -> value
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    # x-amz-meta-NAME without the prefix: lower-case name -> value
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    extra: Extra | None = None

    @property
    def encryption(self) -> Encryption | None:
        """What was promised of the encryption, if anything."""
        return None if self.extra is None else self.extra.encryption

    @property
    def packed(self) -> bool:
        """Whether the bytes are a CAR whose blocks are to be published, not the file."""
        return self.metadata.get(IMPORT) == CAR

    @property
    def hidden(self) -> bool:
        """Whether the account's own key does not open it: then it is never published."""
        return self.extra is not None and (
            self.extra.encryption is not None and self.extra.encryption.second
        )

    def published(self, bucket: Bucket) -> bool:
        """Whether everybody may have the latest version of an object of `bucket` by its CID."""
        extra = self.extra
        if extra is not None and (extra.published is not None or self.hidden):
            return bool(extra.published) and not self.hidden
        return bucket.publishes or self.metadata.get(IPFS) == PUBLISH


@dataclass(frozen=True, slots=True)
class PartSummary:
    """One part of a finished multipart object, or of an upload in progress."""

    number: int
    size: int
    etag: str
    modified_ns: int
    checksum: Checksum | None = None


class ObjectVersion(msgspec.Struct, frozen=True):
    """One stored version of an object, without its bytes.

    A Struct and not a dataclass because a listing makes 1,000 of them: 0.3 µs each, not 2.3. Use
    `msgspec.structs.replace`. In a Listing only what lists show is filled in: key, version_id,
    sequence, size, etag, modified_ns, profile, checksum, uid, cid; in a VersionListing also
    superseded_ns; and attributes where the bucket has the setting FOREIGN, their
    headers where it has CLASSED.
    """

    bucket: Bucket
    key: str
    version_id: str  # opaque; "null" of what was stored without versioning
    sequence: int  # grows with every version of this key
    size: int
    etag: str  # without quotes
    modified_ns: int
    attributes: Attributes
    fid: bytes  # binary CID of the manifest
    profile: str
    checksum: Checksum | None = None
    uid: bytes = b""  # 16 bytes: the version's name on the ledger and in IPFS rows
    parts: tuple[PartSummary, ...] = ()  # of a multipart object
    cid: str | None = None  # IPFS root, once known, in a publishing bucket
    complete: bool = True  # all k+m fragments of every segment are stored
    record: bytes = b""  # ObjectService's own
    # When the next newer version of the key came; 0: this is the latest.
    superseded_ns: int = 0

    @property
    def deleted(self) -> bool:
        """Whether it is a delete marker: a version that says that there is no object."""
        return not self.etag

    def __repr__(self) -> str:
        return f"ObjectVersion({self.bucket.name}/{self.key} {self.version_id} {self.etag})"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of keys. `next_start` is the inclusive key to go on from; None at the end."""

    objects: list[ObjectVersion]
    common_prefixes: list[str]
    next_start: bytes | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a bucket's versions: before all of `key`, or behind one of them."""

    key: bytes
    below: int | None = None  # of `key` itself: versions with a smaller sequence
    superseded_ns: int = 0  # modified_ns of the version at `below`, where it is known


@dataclass(slots=True)
class VersionListing:
    """One page of versions and delete markers: by key, then the newest first."""

    versions: list[ObjectVersion]
    common_prefixes: list[str]
    next_start: Position | None  # where to go on; None at the end


class Deletion(msgspec.Struct, frozen=True):
    """What a DELETE did: took a version away for good, or put a delete marker before it.

    Where versioning is suspended it does both: the marker is called null, as what it replaces was.
    """

    removed: ObjectVersion | None = None
    marker: ObjectVersion | None = None


class Standing(Enum):
    """What a version must still be among its key's for ObjectService.expire."""

    LATEST = auto()
    NONCURRENT = auto()  # a newer version is there
    ALONE = auto()  # the only version that the key has


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload in progress."""

    bucket: Bucket
    key: str
    upload_id: str
    started_ns: int
    attributes: Attributes
    algorithm: Algorithm | None = None
    composite: bool = True  # checksum type of the finished object
    record: bytes = field(default=b"", repr=False, compare=False)

    @property
    def closed(self) -> bool:
        """Whether it began with a client's key."""
        encryption = self.attributes.encryption
        return encryption is not None and encryption.customer


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part as CompleteMultipartUpload names it."""

    number: int
    etag: str
    checksum: bytes | None = None


@dataclass(frozen=True, slots=True)
class WriteCondition:
    """If-Match / If-None-Match on a write: entity tags without quotes, or `*`.

    A deletion may also say the size and the time (whole seconds since 1970) of what it is about.
    """

    if_match: str | None = None
    if_none_match: str | None = None
    size: int | None = None
    modified: int | None = None

    @property
    def asks_for_one(self) -> bool:
        """Whether it is about something that has to be there."""
        return self.if_match is not None or self.size is not None or self.modified is not None
