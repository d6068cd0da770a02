"""Durable queues in the catalog: filled by commits of any process, emptied by one courier each.

A queue holds at most `most` rows, so nobody who is down for long fills the catalog: what comes then
is counted and dropped (docs/adr/181). Rows and counters change in one commit and never differ.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from gateway.catalog.interface import Add, Batch, Catalog, Conflict, Delete, Equals, Reader, Space
from gateway.catalog.judge import unpack_counter
from gateway.records import QueuedRow, decode
from gateway.transaction import Transaction

NOTIFICATIONS, REPLICATIONS = "notify", "replicate"
_COUNTERS = b"queue/"
_WAITING, _DONE, _DROPPED = "waiting", "done", "dropped"
_FIGURES_MAX = 10_000


R = TypeVar("R", bound=QueuedRow)


class Waiting(NamedTuple, Generic[R]):
    """A row of a queue."""

    place: bytes
    raw: bytes
    row: R


class Figures(NamedTuple):
    """Of one queue: rows that wait now; rows that were worked off, and dropped, so far."""

    waiting: int
    done: int
    dropped: int


def append(transaction: Transaction, kind: str, name: str, raw: bytes, most: int) -> bool:
    """Add a row; False when the queue is full and the row is counted as dropped instead."""
    if transaction.reader.counter(_counter(kind, name, _WAITING)) >= most:
        transaction.add([Add(_counter(kind, name, _DROPPED), 1)])
        return False
    transaction.append(Space.JOBS, _prefix(kind, name), raw)
    transaction.add([Add(_counter(kind, name, _WAITING), 1)])
    return True


def figures(reader: Reader) -> dict[tuple[str, str], Figures]:
    """(kind, name) -> figures of every queue that there ever was."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    rows = reader.scan(Space.COUNTERS, _COUNTERS, _COUNTERS + b"\xff", _FIGURES_MAX)
    for key, raw in rows:
        _, kind, name, figure = key.decode().split("/")
        found.setdefault((kind, name), {})[figure] = unpack_counter(raw)
    return {
        queue: Figures(*(values.get(figure, 0) for figure in (_WAITING, _DONE, _DROPPED)))
        for queue, values in found.items()
    }


class Queue(Generic[R]):
    """One queue, as the only one sees it who takes rows out."""

    def __init__(self, catalog: Catalog, kind: str, name: str, rows: type[R]) -> None:
        self._catalog = catalog
        self._rows = rows
        self.kind = kind
        self.name = name

    def page(self, limit: int) -> list[Waiting[R]]:
        """The oldest rows. Raises CatalogUnavailable, CorruptRecord."""
        prefix = _prefix(self.kind, self.name)
        with self._catalog.read() as reader:
            rows = reader.scan(Space.JOBS, prefix, prefix + b"\xff" * 11, limit)
        return [Waiting(place, raw, decode(self._rows, raw)) for place, raw in rows]

    async def remove(self, done: Sequence[Waiting[R]], dropped: Sequence[Waiting[R]]) -> None:
        """Take rows out; if somebody else took one of them, nothing. Raises CatalogUnavailable."""
        gone = [*done, *dropped]
        if not gone:
            return
        counts = ((_WAITING, -len(gone)), (_DONE, len(done)), (_DROPPED, len(dropped)))
        batch = Batch(
            [Equals(Space.JOBS, row.place, row.raw) for row in gone],
            [
                *(Delete(Space.JOBS, row.place) for row in gone),
                *(Add(_counter(self.kind, self.name, which), by) for which, by in counts if by),
            ],
        )
        try:
            await self._catalog.commit(batch)
        except Conflict:
            return  # another courier of the same queue ends just now: it delivered them, too


def _prefix(kind: str, name: str) -> bytes:
    return f"{kind}/{name}/".encode()


def _counter(kind: str, name: str, figure: str) -> bytes:
    return _COUNTERS + f"{kind}/{name}/{figure}".encode()
