"""Who may do what: one pure decision.

An account may do everything with its own buckets. A public bucket may be read and listed by
anybody. Everything else is denied.
"""

from enum import Enum, auto

from gateway.model import Account, Bucket


class Action(Enum):
    """What an operation does to what it names."""

    SERVICE = auto()  # the caller's own account: ListBuckets, CreateBucket
    READ = auto()  # objects, their metadata, and lists of them
    WRITE = auto()  # objects and uploads, and lists of uploads
    CONFIGURE = auto()  # the bucket itself, its settings and their values
    PREFLIGHT = auto()  # a browser's question whether its page may ask


def allowed(caller: Account | None, action: Action, bucket: Bucket | None) -> bool:
    """Whether `caller` (None: anonymous) may do `action` on `bucket` (None: the service)."""
    if bucket is None:
        return caller is not None and action is Action.SERVICE
    if action is Action.PREFLIGHT or (caller is not None and caller.id == bucket.owner.id):
        return True
    return bucket.public and action is Action.READ
