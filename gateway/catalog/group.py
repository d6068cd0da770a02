"""One group of commits on its way: judged and applied to an open index transaction, one by one."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.catalog import record
from gateway.catalog.bodies import LogReader
from gateway.catalog.index import Position, Rows
from gateway.catalog.interface import Batch, Space
from gateway.catalog.judge import judge
from gateway.catalog.log import Located
from gateway.catalog.record import Place, Resolved

_BODIES = int(Space.BODIES)
_SPACES = {int(space): space for space in Space}  # a call of the enumeration takes 0.6 µs


class Move(NamedTuple):
    """A body to be written again at the head, if it still lies at `place`."""

    key: bytes
    place: Place
    value: bytes


class Group:
    """Records for one append, with the index as it will be after it.

    It is also the state that its batches are judged against. The transaction is the caller's to
    commit (after the records are on stable storage) or abort.
    """

    def __init__(self, rows: Rows, start: Position, log: LogReader) -> None:
        self.rows = rows
        self.position = start
        self.records: list[bytes] = []
        self._start = start
        self._log = log
        self._tallies = _Tallies(rows)

    def add(self, batch: Batch) -> int:
        """Judge and apply; returns the commit's sequence. Raises Conflict and leaves no trace."""
        sequence = self.position.sequence + 1
        self._append(sequence, judge(batch, self, sequence))
        return sequence

    def move(self, moves: Sequence[Move]) -> int:
        """Write bodies again; returns the sequence (of the commit before, if none was needed)."""
        resolved = [
            Resolved(record.PUT, _BODIES, move.key, move.value)
            for move in moves
            if self.rows.place(move.key) == move.place
        ]
        if resolved:
            self._append(self.position.sequence + 1, resolved)
        return self.position.sequence

    def _append(self, sequence: int, changes: Sequence[Resolved]) -> None:
        raw, offsets = record.encode(sequence, self._start.sequence + 1, changes)
        _, file, start = self.position
        for (operation, space, key, value), offset in zip(changes, offsets, strict=True):
            if space == _BODIES:
                place = Place(file, start + offset, len(value))
                self._tallies.body(key, place if operation == record.PUT else None)
            elif operation == record.PUT:
                self.rows.put(_SPACES[space], key, value)
            else:
                self.rows.delete(_SPACES[space], key)
        self.records.append(raw)
        self.position = Position(sequence, file, start + len(raw))

    def replay(self, located: Located) -> None:
        """Apply a record that the log holds already."""
        found, file, start, raw = located
        for operation, space, key, offset, value_offset, length in found.frames:
            if space == _BODIES:
                place = Place(file, start + offset, length)
                self._tallies.body(key, place if operation == record.PUT else None)
            elif operation == record.PUT:
                value = raw[value_offset : value_offset + length]
                self.rows.put(_SPACES[space], key, value)
            else:
                self.rows.delete(_SPACES[space], key)
        if file != self.position.file:
            self._tallies.flush(self.position)
        self.position = Position(found.sequence, file, start + found.length)

    def finish(self) -> None:
        """Put what the index says of the log itself into the transaction."""
        self._tallies.flush(self.position)
        self.rows.set_applied(self.position)

    # ------------------------------------------------------------------ judge.State
    def get(self, space: Space, key: bytes) -> bytes | None:
        """A row as the batches before left it; a body may lie in a record not yet written."""
        if space != Space.BODIES:
            return self.rows.get(space, key)
        place = self.rows.place(key)
        if place is None:
            return None
        if place.file == self._start.file and place.offset >= self._start.offset:
            at = place.offset - self._start.offset + record.FRAME_BYTES + len(key)
            return b"".join(self.records)[at : at + place.length]
        return self._log.read(place, Space.BODIES, key)

    def has(self, space: Space, key: bytes) -> bool:
        """Whether there is such a row."""
        return self.rows.get(space, key) is not None

    def holds_prefix(self, space: Space, prefix: bytes) -> bool:
        """Whether a row's key starts with `prefix`."""
        return self.rows.holds_prefix(space, prefix)


class _Tallies:
    """Live bytes per log file, kept in memory until the group ends."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.changes: dict[int, int] = {}
        self.written: dict[int, int] = {}  # bytes of new bodies

    def body(self, key: bytes, place: Place | None) -> None:
        """Set or remove a row of BODIES."""
        old = self.rows.place(key)
        if old is not None:
            self._add(old.file, -record.frame_bytes(key, old.length))
        if place is None:
            self.rows.delete(Space.BODIES, key)
        else:
            size = record.frame_bytes(key, place.length)
            self._add(place.file, size)
            self.written[place.file] = self.written.get(place.file, 0) + size
            self.rows.put(Space.BODIES, key, place.pack())

    def _add(self, file: int, delta: int) -> None:
        self.changes[file] = self.changes.get(file, 0) + delta

    def flush(self, position: Position) -> None:
        """Write the changes; `position` tells how far its file reaches."""
        self.changes.setdefault(position.file, 0)
        for file, delta in self.changes.items():
            tally = self.rows.tally(file)
            # A file that compaction removed may come up again when an older index is replayed.
            tally = tally._replace(
                live=max(0, tally.live + delta), bodies=tally.bodies + self.written.get(file, 0)
            )
            if file == position.file:
                tally = tally._replace(last=position.sequence, length=position.offset)
            self.rows.set_tally(file, tally)
        self.changes.clear()
        self.written.clear()
