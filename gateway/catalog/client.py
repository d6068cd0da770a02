"""The catalog as a worker holds it: reads by mmap and positioned reads, commits by message."""

import asyncio
import logging
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import get_ident

import lmdb
import msgspec

from chain.clock import Entropy, system_entropy
from chain.gathering import Gathering
from chain.net.transport import Peer, RemoteError, Unreachable
from gateway.catalog import protocol
from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.index import Index
from gateway.catalog.interface import (
    BadBatch,
    Batch,
    CatalogDamaged,
    CatalogFull,
    CatalogUnavailable,
    CommitUncertain,
    Conflict,
    Reader,
)
from gateway.catalog.protocol import (
    BATCHES_BYTES,
    BATCHES_MAX,
    COMMITTED,
    Commit,
    Committed,
    IndexDamaged,
    Outcome,
    encode_batch,
    refusals,
)

logger = logging.getLogger(__name__)

COMMIT_SECONDS = 30.0
NAME_BYTES = 8
# A message may overtake the one that tells a new writer of us, and has to be sent again.
_BEGINNINGS_MAX = 8
# Commits share messages (docs/adr/226). While so many are on their way, later ones gather for the
# next: at 16 PUTs at once that halves what messages cost.
MESSAGES_MAX = 2
WAITING_MAX = 4096
# Every so many reads: was the index made anew, were log files removed that we hold open?
_LOOK_EVERY = 512

_Waiting = tuple[msgspec.Raw, asyncio.Future[Outcome]]


class _Shared:
    """A snapshot with several users: ends with its turn, or with whoever holds it longer."""

    __slots__ = ("_over", "_snapshot", "_users")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._users = 0
        self._over = False

    def __enter__(self) -> Snapshot:
        self._users += 1
        return self._snapshot

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if self._over and not self._users:
            self._snapshot.__exit__()

    def end(self) -> None:
        """Nobody else joins."""
        self._over = True
        if not self._users:
            self._snapshot.__exit__()


class CatalogClient:
    """Catalog over another process's writer. Make it after spawn; use it from one event loop.

    A writer that restarts is found again by `peer` itself; until then commits raise
    CatalogUnavailable and reads go on.
    """

    def __init__(
        self,
        directory: Path,
        peer: Peer,
        *,
        index: Index | None = None,
        entropy: Entropy = system_entropy,
    ) -> None:
        """`index` is given when the writer is in this process: LMDB opens a file only once."""
        self._directory, self._peer = directory, peer
        self._log = LogReader(directory / "log")
        self._index = index
        self._shared = index is not None
        self._file = 0
        self._index_id = index.identifier if index else b""
        self._told = b""  # which index's damage the writer knows of
        self._reads = 0
        self._turn: _Shared | None = None
        self._thread = 0
        self._entropy = entropy
        self._session, self._name, self._number = b"", b"", 0
        self._waiting: list[_Waiting] = []
        self._sent = 0  # commits in messages on their way
        self._messages: set[asyncio.Task[None]] = set()
        self._gathering = Gathering()
        self._looking = False
        self._timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ reading
    def read(self) -> AbstractContextManager[Reader]:
        """See Catalog. Raises CatalogUnavailable while there is no index.

        All reads of one turn of the event loop share a snapshot (a GET makes five). It is never too
        old: what this turn runs was received before it began, and so before the snapshot; what is
        received later runs behind `_end_turn`, in the next turn.
        """
        if self._turn is not None and self._thread == get_ident():
            return self._turn
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._snapshot()  # another thread's
        if self._turn is not None:
            return self._snapshot()  # another loop's
        self._turn, self._thread = _Shared(self._snapshot()), get_ident()
        loop.call_soon(self._end_turn)
        return self._turn

    def _end_turn(self) -> None:
        shared, self._turn = self._turn, None
        if shared is not None:
            shared.end()

    def _snapshot(self) -> Snapshot:
        self._reads += 1
        if self._reads % _LOOK_EVERY == 0:
            self._look()
        index = self._index
        return Snapshot(self._open() if index is None else index, self._log, self._damaged)

    def _damaged(self, reason: str) -> None:
        """Have the index made again; of each index it is said once."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # another thread's; the loop will meet it too
        if self._told != self._index_id:
            self._told = self._index_id
            task = loop.create_task(self._tell(IndexDamaged(self._index_id, reason)))
            self._messages.add(task)
            task.add_done_callback(partial(self._answered, 0))

    async def _tell(self, message: IndexDamaged) -> None:
        logger.error("the catalog's index is damaged: %s", message.reason)
        try:
            await self._peer.ask(message, timeout=COMMIT_SECONDS)
        except (Unreachable, RemoteError) as error:
            logger.warning("the catalog's writer was not told: %s", error)
            self._told = b""

    def _open(self) -> Index:
        try:
            self._file = self._inode()
            self._index = Index.open_readonly(self._directory / "index")
            self._index_id = self._index.identifier
        except (OSError, lmdb.Error) as error:
            raise CatalogUnavailable(f"the catalog's index cannot be opened: {error}") from error
        return self._index

    def _inode(self) -> int:
        return (self._directory / "index" / "data.mdb").stat().st_ino

    def _look(self) -> None:
        """Let go of what the writer replaced or removed."""
        self._log.forget_missing()
        if self._index is None or self._shared:
            return
        try:
            same = self._inode() == self._file
        except OSError:
            same = False
        if not same:
            self._reopen()

    def _reopen(self) -> None:
        if self._index is not None and not self._shared:
            logger.info("the catalog's index was made anew; opening it again")
            # Not closed: a snapshot may still be open on it. Its last reference closes it.
            self._index = None

    # ------------------------------------------------------------------ committing
    async def commit(self, batch: Batch) -> int:
        """See Catalog. Raises Conflict, BadBatch, CatalogUnavailable, CommitUncertain."""
        raw = encode_batch(batch)
        if len(self._waiting) >= WAITING_MAX:
            raise CatalogUnavailable("too many commits wait for the catalog's writer")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((raw, future))
        if not self._looking:
            self._looking = True
            loop.call_soon(self._look_whether_to_send)
        outcome = await future
        if outcome.code:
            raise _refusal(outcome.code, outcome.reason)
        if outcome.failed != COMMITTED:
            candidates = refusals(batch)
            if not 0 <= outcome.failed < len(candidates):
                raise CatalogUnavailable("the catalog's writer gave an impossible answer")
            raise Conflict(candidates[outcome.failed])
        return outcome.sequence

    def _look_whether_to_send(self) -> None:
        """At the end of a turn in which commits came, or a message was answered."""
        self._looking = False
        waiting = len(self._waiting)
        complete = self._gathering.complete(waiting, waiting + self._sent)
        if not waiting or len(self._messages) >= MESSAGES_MAX:
            return
        if complete:
            self._send()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._gathering.patience, self._send)

    def _send(self) -> None:
        """What waits, in as few messages as possible."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gathering.begin(len(self._waiting) + self._sent, loop.time())
        while self._waiting and len(self._messages) < MESSAGES_MAX:
            count, size = 0, 0
            while count < min(len(self._waiting), BATCHES_MAX) and size < BATCHES_BYTES:
                size += len(memoryview(self._waiting[count][0]))
                count += 1
            if count > 1 and size > BATCHES_BYTES:
                count -= 1
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
            self._sent += count
            task = loop.create_task(self._ask(taken))
            self._messages.add(task)
            task.add_done_callback(partial(self._answered, count))

    def _answered(self, commits: int, task: asyncio.Task[None]) -> None:
        self._messages.discard(task)
        if commits:
            self._sent -= commits
            self._gathering.end(asyncio.get_running_loop().time())
        if self._waiting and not self._looking:
            self._look_whether_to_send()

    async def _ask(self, taken: "list[_Waiting]") -> None:
        """Send one message and tell each of those who wait for it."""
        error: Exception
        try:
            reply = await self._deliver([raw for raw, _ in taken])
        except Unreachable as unreachable:
            error = CommitUncertain(f"the catalog's writer did not answer: {unreachable}")
        except RemoteError as refused:
            error = _refusal(refused.code, refused.reason)
        else:
            if self._index is not None and not self._shared and reply.index_id != self._index_id:
                self._reopen()
            if len(reply.outcomes) == len(taken):
                for (_, future), outcome in zip(taken, reply.outcomes, strict=True):
                    if not future.done():
                        future.set_result(outcome)
                return
            error = CommitUncertain("the catalog's writer gave an impossible answer")
        for _, future in taken:
            if not future.done():
                future.set_exception(type(error)(*error.args))

    async def _deliver(self, batches: list[msgspec.Raw]) -> Committed:
        """Send one message; under a new name where the writer is another than before."""
        for attempt in range(_BEGINNINGS_MAX):
            session, name, number = self._session, self._name, self._number
            self._number += 1
            try:
                message = Commit(session, name, number, batches)
                return await self._peer.ask(message, timeout=COMMIT_SECONDS)
            except RemoteError as refused:
                if refused.code != protocol.NOT_BEGUN or attempt == _BEGINNINGS_MAX - 1:
                    raise
                if (session, name) == (self._session, self._name):
                    self._begin(refused)
        raise AssertionError("unreachable")

    def _begin(self, refused: RemoteError) -> None:
        try:
            self._session = bytes.fromhex(refused.reason)
        except ValueError:
            raise refused from None
        self._name, self._number = self._entropy(NAME_BYTES), 0

    async def close(self) -> None:
        """See Catalog."""
        self._end_turn()
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(CatalogUnavailable("the catalog's client is closed"))
        self._peer.close()
        if self._messages:
            await asyncio.wait(self._messages)
        self._log.close()
        if self._index is not None and not self._shared:
            self._index.close()
            self._index = None


def _refusal(code: str, reason: str) -> Exception:
    kinds: dict[str, type[Exception]] = {
        protocol.UNAVAILABLE: CatalogUnavailable,
        protocol.NOT_BEGUN: CatalogUnavailable,
        protocol.FULL: CatalogFull,
        protocol.DAMAGED: CatalogDamaged,
        protocol.BAD: BadBatch,
    }
    # Whatever else went wrong there, it may have been after the commit.
    return kinds.get(code, CommitUncertain)(reason)
