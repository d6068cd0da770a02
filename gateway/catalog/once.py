"""Messages that are worked on once, however often and whenever they come.

A condition such as "there is no such row" holds again when the row was deleted: a commit that comes
a second time, an hour later, would bring back an object whose fragments are gone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

# How many of a client's messages may overtake each other, and clients that are remembered.
WINDOW, CLIENTS_MAX = 64, 1024

T = TypeVar("T")


class NotBegun(Exception):
    """The message is of another session of the service, or of a client that is not known here.

    It was not worked on: the client begins anew, under a new name and with message 0.
    """


class Repeated(Exception):
    """The message came long ago."""


class _Client(Generic[T]):
    def __init__(self) -> None:
        self.highest = 0
        self.answers: dict[int, asyncio.Future[T]] = {}


class Once(Generic[T]):
    """A service's memory of the messages that it took in one session (the run of its process).

    A client takes a random name and counts its messages from 0.
    """

    def __init__(self, session: bytes) -> None:
        self.session = session
        self._clients: OrderedDict[bytes, _Client[T]] = OrderedDict()

    async def answer(
        self, session: bytes, client: bytes, number: int, work: Callable[[], Awaitable[T]]
    ) -> T:
        """What `work` gives; the same again for a copy of the message.

        Raises NotBegun, Repeated, and what `work` raises.
        """
        known = self._client(session, client, number)
        if number <= known.highest - WINDOW:
            raise Repeated
        answered = known.answers.get(number)
        if answered is not None:
            return await asyncio.shield(answered)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        known.answers[number] = future
        known.highest = max(known.highest, number)
        # The oldest first; one that overtook others goes a little later.
        while (oldest := next(iter(known.answers))) <= known.highest - WINDOW:
            del known.answers[oldest]
        try:
            result = await work()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # there may be no copy that asks for it
            raise
        future.set_result(result)
        return result

    def _client(self, session: bytes, name: bytes, number: int) -> _Client[T]:
        known = self._clients.get(name)
        if session != self.session or (known is None and number != 0):
            raise NotBegun
        if known is None:
            known = self._clients[name] = _Client()
            if len(self._clients) > CLIENTS_MAX:
                self._clients.popitem(last=False)
        else:
            self._clients.move_to_end(name)
        return known
