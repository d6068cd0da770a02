"""Messages to the catalog's writer, and batches as bytes.

A batch travels as one payload: a MessagePack array of [conditions, changes], each item an array
that starts with its kind. Bodies are small (at most 16 KiB by default), so one frame that holds all
is cheaper than a frame each.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chain.net.transport import Message, Payload
from gateway.catalog.interface import (
    Add,
    Append,
    BadBatch,
    Batch,
    Change,
    Condition,
    Delete,
    Empty,
    Equals,
    Exists,
    Put,
    Space,
)

CONFLICT, UNAVAILABLE, UNCERTAIN, DAMAGED, BAD = (
    "conflict",
    "unavailable",
    "uncertain",
    "damaged",
    "bad_batch",
)
COMMITTED = -1


class Committed(msgspec.Struct, frozen=True, array_like=True):
    """The commit's number; or, in `failed`, which condition did not hold (then bounded adds)."""

    sequence: int
    failed: int = COMMITTED
    index_id: bytes = b""


class Commit(Message[Committed], frozen=True, array_like=True):
    """Judge and commit a batch (see `encode_batch`)."""

    batch: Payload


_Bytes = Annotated[bytes, Meta(max_length=16 << 20)]


class _Equals(msgspec.Struct, frozen=True, array_like=True, tag=0):
    space: Space
    key: _Bytes
    value: _Bytes | None


class _Exists(msgspec.Struct, frozen=True, array_like=True, tag=1):
    space: Space
    key: _Bytes


class _Empty(msgspec.Struct, frozen=True, array_like=True, tag=2):
    space: Space
    prefix: _Bytes


class _Put(msgspec.Struct, frozen=True, array_like=True, tag=0):
    space: Space
    key: _Bytes
    value: _Bytes


class _Delete(msgspec.Struct, frozen=True, array_like=True, tag=1):
    space: Space
    key: _Bytes


class _Add(msgspec.Struct, frozen=True, array_like=True, tag=2):
    key: _Bytes
    delta: int
    floor: int | None
    ceiling: int | None


class _Append(msgspec.Struct, frozen=True, array_like=True, tag=3):
    space: Space
    prefix: _Bytes
    value: _Bytes


class _Batch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    conditions: list[_Equals | _Exists | _Empty]
    changes: list[_Put | _Delete | _Add | _Append]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Batch)
_BATCH_MAX = 16 << 20  # what one payload carries


def _condition_fields(condition: Condition) -> tuple[Any, ...]:
    if isinstance(condition, Equals):
        return (0, int(condition.space), condition.key, condition.value)
    if isinstance(condition, Exists):
        return (1, int(condition.space), condition.key)
    return (2, int(condition.space), condition.prefix)


def _change_fields(change: Change) -> tuple[Any, ...]:
    if isinstance(change, Put):
        return (0, int(change.space), change.key, change.value)
    if isinstance(change, Delete):
        return (1, int(change.space), change.key)
    if isinstance(change, Add):
        return (2, change.key, change.delta, change.floor, change.ceiling)
    return (3, int(change.space), change.prefix, change.value)


def encode_batch(batch: Batch) -> bytes:
    """A checked batch (judge.check) as bytes. Raises BadBatch."""
    raw = _encoder.encode(
        (
            [_condition_fields(condition) for condition in batch.conditions],
            [_change_fields(change) for change in batch.changes],
        )
    )
    if len(raw) > _BATCH_MAX:
        raise BadBatch(f"a batch with its conditions has at most {_BATCH_MAX} bytes")
    return raw


_CONDITIONS: dict[type[msgspec.Struct], Any] = {_Equals: Equals, _Exists: Exists, _Empty: Empty}
_CHANGES: dict[type[msgspec.Struct], Any] = {
    _Put: Put,
    _Delete: Delete,
    _Add: Add,
    _Append: Append,
}


def decode_batch(raw: Any) -> Batch:
    """Inverse of `encode_batch`, for bytes of any origin. Raises BadBatch."""
    try:
        batch = _decoder.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as error:
        raise BadBatch(f"not a batch: {error}") from None
    return Batch(
        [_CONDITIONS[type(one)](*_fields(one)) for one in batch.conditions],
        [_CHANGES[type(one)](*_fields(one)) for one in batch.changes],
    )


def _fields(struct: msgspec.Struct) -> tuple[Any, ...]:
    fields: tuple[Any, ...] = msgspec.structs.astuple(struct)
    return fields


def refusals(batch: Batch) -> list[Condition | Add]:
    """What can fail in a batch, in the order that `Committed.failed` counts."""
    adds = [change for change in batch.changes if isinstance(change, Add)]
    return [*batch.conditions, *adds]
