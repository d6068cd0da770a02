"""Messages to the catalog's writer, and batches as bytes.

One message carries the batches that a process committed at about the same time, in the order in
which they are judged; each has an outcome of its own. A batch is a MessagePack array of
[conditions, changes], each item an array that starts with its kind. Bodies are small (at most
16 KiB by default), so one frame that holds all is cheaper than a frame each.
"""

from typing import Any

import msgspec

from chain.net.transport import Buffer, Message
from gateway.catalog.interface import Add, BadBatch, Batch, Condition

UNAVAILABLE, UNCERTAIN, DAMAGED, BAD = "unavailable", "uncertain", "damaged", "bad_batch"
FULL = "full"
# Nothing was done: begin anew in the session that the reason names (hex); or never come again.
NOT_BEGUN, REPEATED = "not_begun", "repeated"
COMMITTED = -1
# Batches of one message; and the bytes from which on it takes no further one.
BATCHES_MAX, BATCHES_BYTES = 64, 1 << 20


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """What became of one batch: the commit's number; or `failed`, which condition did not hold
    (then bounded adds); or a refusal by `code`."""

    sequence: int
    failed: int = COMMITTED
    code: str = ""
    reason: str = ""


class Committed(msgspec.Struct, frozen=True, array_like=True):
    """An outcome for each batch, in order."""

    outcomes: list[Outcome]
    index_id: bytes


class Commit(Message[Committed], frozen=True, array_like=True):
    """Judge and commit batches (see `encode_batch`), one after the other: once (once.py)."""

    session: bytes
    client: bytes
    number: int
    batches: list[msgspec.Raw]


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """The report came; the index is made again if it is about the one in use."""


class IndexDamaged(Message[Heard], frozen=True, array_like=True):
    """Reading the index of this identifier gave what no sound index gives."""

    index_id: bytes
    reason: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch, strict=True).decode
_BATCH_MAX = (16 << 20) - 64  # what the body of one message carries


def encode_batch(batch: Batch) -> msgspec.Raw:
    """A batch as bytes. Raises BadBatch."""
    try:
        raw = _encode(batch)
    except OverflowError:
        raise BadBatch("a counter's step and bounds have 64 bits") from None
    if len(raw) > _BATCH_MAX:
        raise BadBatch(f"a batch with its conditions has at most {_BATCH_MAX} bytes")
    return msgspec.Raw(raw)


def decode_batch(raw: Buffer | msgspec.Raw) -> Batch:
    """Inverse of `encode_batch`, for bytes of any origin. Raises BadBatch."""
    try:
        return _decode(raw)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadBatch(f"not a batch: {error}") from None


def refusals(batch: Batch) -> list[Condition | Add]:
    """What can fail in a batch, in the order that `Outcome.failed` counts."""
    adds = [change for change in batch.changes if isinstance(change, Add)]
    return [*batch.conditions, *adds]


def index_of(batch: Batch, failed: Any) -> int:
    """Which of `refusals(batch)` failed: by identity, since equal ones may stand twice."""
    return next(index for index, one in enumerate(refusals(batch)) if one is failed)
