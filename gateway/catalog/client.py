"""The catalog as a worker holds it: reads by mmap and positioned reads, commits by message."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path

import lmdb

from chain.net.transport import Payload, Peer, RemoteError, Unreachable
from gateway.catalog import protocol
from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.index import Index
from gateway.catalog.interface import (
    BadBatch,
    Batch,
    CatalogDamaged,
    CatalogUnavailable,
    CommitUncertain,
    Conflict,
    Reader,
)
from gateway.catalog.judge import check
from gateway.catalog.protocol import Commit, encode_batch, refusals

logger = logging.getLogger(__name__)

COMMIT_SECONDS = 30.0
# Every so many reads: was the index made anew, were log files removed that we hold open?
_LOOK_EVERY = 512


class CatalogClient:
    """Catalog over another process's writer. Make it after spawn; use it from one event loop.

    A writer that restarts is found again by `peer` itself; until then commits raise
    CatalogUnavailable and reads go on.
    """

    def __init__(self, directory: Path, peer: Peer, *, index: Index | None = None) -> None:
        """`index` is given when the writer is in this process: LMDB opens a file only once."""
        self._directory, self._peer = directory, peer
        self._log = LogReader(directory / "log")
        self._index = index
        self._shared = index is not None
        self._file = 0
        self._index_id = b""
        self._reads = 0

    # ------------------------------------------------------------------ reading
    def read(self) -> AbstractContextManager[Reader]:
        """See Catalog. Raises CatalogUnavailable while there is no index."""
        self._reads += 1
        if self._reads % _LOOK_EVERY == 0:
            self._look()
        index = self._index
        return Snapshot(self._open() if index is None else index, self._log)

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
        check(batch)
        message = Commit(Payload(encode_batch(batch)))
        try:
            reply = await self._peer.ask(message, timeout=COMMIT_SECONDS)
        except Unreachable as error:
            raise CommitUncertain(f"the catalog's writer did not answer: {error}") from error
        except RemoteError as error:
            raise _refusal(error) from error
        if self._index is not None and not self._shared and reply.index_id != self._index_id:
            self._reopen()
        if reply.failed != protocol.COMMITTED:
            candidates = refusals(batch)
            if not 0 <= reply.failed < len(candidates):
                raise CatalogUnavailable("the catalog's writer gave an impossible answer")
            raise Conflict(candidates[reply.failed])
        return reply.sequence

    async def close(self) -> None:
        """See Catalog."""
        self._peer.close()
        self._log.close()
        if self._index is not None and not self._shared:
            self._index.close()
            self._index = None


def _refusal(error: RemoteError) -> Exception:
    kinds: dict[str, type[Exception]] = {
        protocol.UNAVAILABLE: CatalogUnavailable,
        protocol.DAMAGED: CatalogDamaged,
        protocol.BAD: BadBatch,
    }
    # Whatever else went wrong there, it may have been after the commit.
    return kinds.get(error.code, CommitUncertain)(error.reason)
