"""Fragments on their way to one miner: small ones share messages.

A message costs both processes four wake-ups of threads, and the miner a commit, whatever it
carries. So while a message of small fragments is on its way, those that come meanwhile wait for
the next one, as they would at the miner for its disk. See docs/adr/114-fragments-share-messages.md.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chain.net.transport import QueueFull, RemoteError, Unreachable
from chain.receipts import StorageReceipt
from miner.placement import MinerInfo
from miner.protocol import STORE_MAX, NewFragment, Outcome, StoredFragments, StoreFragments

# A fragment above this travels alone and at once: its bytes cost more than its message.
SMALL = 128 << 10
MESSAGE_BYTES = 1 << 20
# A message that takes longer (a stalled miner) holds others back no more.
HELD_SECONDS = 0.05

Ask = Callable[[MinerInfo, StoreFragments, float], Awaitable[StoredFragments]]


class Stored(NamedTuple):
    """A miner's word for one fragment: a leaf under the receipt's root, with its path."""

    receipt: StorageReceipt
    leaf: int
    path: tuple[bytes, ...]


class _Waiting(NamedTuple):
    miner: MinerInfo
    fragment: NewFragment
    seconds: float
    future: "asyncio.Future[Stored]"


class FragmentSender:
    """What one miner is asked to store. `ask` raises RemoteError, Unreachable.

    For one event loop.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._messages: set[asyncio.Task[None]] = set()
        self._holding: asyncio.TimerHandle | None = None  # while a message holds others back
        self._scheduled = False

    def store(
        self, miner: MinerInfo, fragment: NewFragment, seconds: float
    ) -> "asyncio.Future[Stored]":
        """Send soon; the future has the miner's word, RemoteError or Unreachable.

        `miner` is the same one each time, as it was last heard of. Cancel the future when the
        answer is of no use any more.
        """
        future: asyncio.Future[Stored] = self._loop.create_future()
        entry = _Waiting(miner, fragment, seconds, future)
        if len(fragment.payload) > SMALL:
            self._begin([entry])
            return future
        self._waiting.append(entry)
        if self._holding is None and not self._scheduled:
            # At the end of this turn: whatever else it brings goes along.
            self._scheduled = True
            self._loop.call_soon(self._send)
        return future

    def _send(self) -> None:
        """What waits, as one message."""
        self._scheduled = False
        taken: list[_Waiting] = []
        size = used = 0
        for entry in self._waiting:
            more = 0 if entry.future.done() else len(entry.fragment.payload)
            if len(taken) == STORE_MAX or size + more > MESSAGE_BYTES:
                break
            used += 1
            size += more
            if more:
                taken.append(entry)
        del self._waiting[:used]
        if taken:
            self._holding = self._loop.call_later(HELD_SECONDS, self._go_on)
            self._begin(taken, self._holding)

    def _go_on(self) -> None:
        """Nothing is held back any more."""
        self._holding = None
        if self._waiting and not self._scheduled:
            self._send()

    def _begin(self, taken: list[_Waiting], holding: asyncio.TimerHandle | None = None) -> None:
        task = self._loop.create_task(self._exchange(taken))
        self._messages.add(task)

        def abandon(future: "asyncio.Future[Stored]") -> None:
            if future.cancelled() and all(entry.future.done() for entry in taken):
                task.cancel()  # nobody wants the answer, and the buffers are needed

        def finish(_: "asyncio.Task[None]") -> None:
            self._messages.discard(task)
            if holding is not None and holding is self._holding:
                holding.cancel()
                self._go_on()

        for entry in taken:
            entry.future.add_done_callback(abandon)
        task.add_done_callback(finish)

    async def _exchange(self, taken: list[_Waiting]) -> None:
        """One message, and its answer to each of those who wait for it."""
        message = StoreFragments(tuple(entry.fragment for entry in taken))
        try:
            miner = taken[-1].miner
            reply = await self._ask(miner, message, max(entry.seconds for entry in taken))
            if len(reply.outcomes) != len(taken):
                raise RemoteError("malformed_reply", "an answer for other fragments")
            for entry, outcome in zip(taken, reply.outcomes, strict=True):
                _settle(entry.future, reply, outcome)
        except (RemoteError, Unreachable) as error:
            for entry in taken:
                if not entry.future.done():
                    entry.future.set_exception(_copy(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            for entry in taken:
                if not entry.future.done():
                    entry.future.set_exception(error)


def _settle(future: "asyncio.Future[Stored]", reply: StoredFragments, outcome: Outcome) -> None:
    if future.done():
        return
    if outcome.code:
        future.set_exception(RemoteError(outcome.code, outcome.reason))
    elif 0 <= outcome.receipt < len(reply.receipts):
        receipt = reply.receipts[outcome.receipt]
        future.set_result(Stored(receipt, outcome.index, outcome.path))
    else:
        future.set_exception(RemoteError("malformed_reply", "no such receipt"))


def _copy(error: RemoteError | Unreachable) -> RemoteError | Unreachable:
    """An exception of its own for each who waits: tracebacks grow on what is raised twice."""
    if isinstance(error, RemoteError):
        return RemoteError(error.code, error.reason)
    kind = QueueFull if isinstance(error, QueueFull) else Unreachable
    return kind(str(error))
