"""Judging a batch: conditions against a state, changes into puts and deletes. No I/O."""

import struct
from collections.abc import Sequence
from typing import Protocol

from gateway.catalog import record
from gateway.catalog.interface import (
    KEY_MAX,
    Add,
    Append,
    BadBatch,
    Batch,
    Change,
    Condition,
    Conflict,
    Delete,
    Empty,
    Equals,
    Exists,
    Put,
    Space,
)
from gateway.catalog.record import Resolved

_I64 = struct.Struct(">q")
_APPENDED = struct.Struct(">QH")
COUNTER_MIN, COUNTER_MAX = -(1 << 63), (1 << 63) - 1
# A look into an enumeration costs as much as a call, and each commit makes a dozen.
_COUNTERS, _COUNTERS_NUMBER = Space.COUNTERS, int(Space.COUNTERS)
_NUMBERS = tuple(map(int, Space))


class State(Protocol):
    """What conditions are judged against: the rows as the batches before left them."""

    def get(self, space: Space, key: bytes) -> bytes | None:
        """The row's value, or None."""
        ...

    def has(self, space: Space, key: bytes) -> bool:
        """Whether there is such a row."""
        ...

    def holds_prefix(self, space: Space, prefix: bytes) -> bool:
        """Whether a row's key starts with `prefix`."""
        ...


def pack_counter(value: int) -> bytes:
    """A counter's row."""
    return _I64.pack(value)


def unpack_counter(raw: bytes | None) -> int:
    """A counter's value; no row is 0."""
    if raw is None:
        return 0
    if len(raw) != _I64.size:
        raise BadBatch("a row of COUNTERS has 8 bytes")
    value: int = _I64.unpack(raw)[0]
    return value


def check(batch: Batch) -> int:
    """The bytes that `batch` takes in the log, at most.

    Raises BadBatch if no catalog would take it, whatever the catalog holds.
    """
    if len(batch.changes) > record.CHANGES_MAX or len(batch.conditions) > record.CHANGES_MAX:
        raise BadBatch(f"a batch has at most {record.CHANGES_MAX} changes")
    size = record.HEADER_BYTES + len(batch.changes) * (record.FRAME_BYTES + _APPENDED.size)
    for change in batch.changes:
        if isinstance(change, Append):
            key, shortest, longest = change.prefix, 0, KEY_MAX - _APPENDED.size
        else:
            key, shortest, longest = change.key, 1, KEY_MAX
        if not shortest <= len(key) <= longest:
            raise BadBatch(f"a key has 1 to {KEY_MAX} bytes, not {len(key)}")
        size += len(key)
        if isinstance(change, Add):
            _check_add(change)
        elif not isinstance(change, Delete):
            size += len(change.value)
            if change.space is _COUNTERS and len(change.value) != _I64.size:
                raise BadBatch("a row of COUNTERS has 8 bytes")
    if size > record.RECORD_MAX:
        raise BadBatch(f"a batch has at most {record.RECORD_MAX} bytes")
    _check_conditions(batch.conditions)
    return size


def _check_conditions(conditions: Sequence[Condition]) -> None:
    for condition in conditions:
        if not isinstance(condition, Empty) and not 1 <= len(condition.key) <= KEY_MAX:
            raise BadBatch(f"a key has 1 to {KEY_MAX} bytes, not {len(condition.key)}")


def _check_add(change: Add) -> None:
    for value in (change.delta, change.floor, change.ceiling):
        if value is not None and not COUNTER_MIN <= value <= COUNTER_MAX:
            raise BadBatch("a counter's step and bounds have 64 bits")


def judge(batch: Batch, state: State, sequence: int) -> list[Resolved]:
    """What `batch` changes if it is commit number `sequence`. Raises Conflict.

    `batch` was checked. The state is only read.
    """
    for condition in batch.conditions:
        if not _holds(condition, state):
            raise Conflict(condition)
    return _resolve(batch.changes, state, sequence)


def _holds(condition: Condition, state: State) -> bool:
    if isinstance(condition, Equals):
        if condition.value is None:
            return not state.has(condition.space, condition.key)
        return state.get(condition.space, condition.key) == condition.value
    if isinstance(condition, Exists):
        return state.has(condition.space, condition.key)
    return not state.holds_prefix(condition.space, condition.prefix)


def _resolve(changes: Sequence[Change], state: State, sequence: int) -> list[Resolved]:
    resolved = []
    appended = 0
    counters: dict[bytes, int] = {}  # as changed by this batch so far
    put, delete = record.PUT, record.DELETE
    for change in changes:
        if isinstance(change, Put):
            space, value = change.space, bytes(change.value)
            resolved.append(Resolved(put, _NUMBERS[space], change.key, value))
            if space is _COUNTERS:
                counters[change.key] = unpack_counter(value)
        elif isinstance(change, Delete):
            space = change.space
            resolved.append(Resolved(delete, _NUMBERS[space], change.key, b""))
            if space is _COUNTERS:
                counters[change.key] = 0
        elif isinstance(change, Append):
            key = change.prefix + _APPENDED.pack(sequence, appended)
            appended += 1
            resolved.append(Resolved(put, _NUMBERS[change.space], key, bytes(change.value)))
        else:
            counters[change.key] = result = _add(change, counters, state)
            row = Resolved(put, _COUNTERS_NUMBER, change.key, pack_counter(result))
            resolved.append(row)
    return resolved


def _add(change: Add, counters: dict[bytes, int], state: State) -> int:
    before = counters.get(change.key)
    if before is None:
        before = unpack_counter(state.get(_COUNTERS, change.key))
    result = before + change.delta
    # Floor and ceiling have 64 bits themselves (_check_add).
    floor = COUNTER_MIN if change.floor is None else change.floor
    ceiling = COUNTER_MAX if change.ceiling is None else change.ceiling
    if not floor <= result <= ceiling:
        raise Conflict(change)
    return result
