"""How many requests a worker has at once, in all and of one client. Pure."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.ipfs.errors import Busy


class Admission:
    """Counts requests while they last."""

    def __init__(self, most: int, most_of_client: int) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._count = 0
        self._clients: Counter[str] = Counter()

    @contextmanager
    def request(self, client: str) -> Iterator[None]:
        """The time of one request. Raises Busy."""
        if self._count >= self._most:
            raise Busy("this gateway is busy: try again in a moment")
        if self._clients.get(client, 0) >= self._most_of_client:
            raise Busy("too many requests at once from one address: try again in a moment")
        self._count += 1
        self._clients[client] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
