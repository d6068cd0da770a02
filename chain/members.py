"""Who is on the ledger, answered from memory: what a node asks before it serves a stranger.

The CURVE handshake and every request ask (docs/adr/011-curve-keys.md), so the answer never waits.
The set is read again every few seconds, at once (but at most once a second) when somebody unknown
asks, and kept in a file, so that a node that starts while the ledger is away serves whom it knew.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

import msgspec

from chain.client import LedgerClient
from chain.clock import Clock
from chain.format import write_durably
from chain.ids import AccountId
from chain.net.transport import RemoteError, Unreachable

log = logging.getLogger(__name__)

EVERY_SECONDS, SOONEST_SECONDS = 10.0, 1.0
FORMAT = 1


class _File(msgspec.Struct, frozen=True):
    """The file: account ids in hexadecimal -> addresses."""

    format: int
    gateways: dict[str, str]
    edges: dict[str, str]
    miners: dict[str, str]


class Members:
    """The registered gateways, edges and miners with their addresses. For one event loop."""

    def __init__(
        self,
        ledger: LedgerClient,
        clock: Clock,
        file: Path | None,
        *,
        every: float = EVERY_SECONDS,
    ) -> None:
        """`file` keeps the sets (None: nothing does); they are read again after `every` seconds."""
        self._every = every
        self._ledger = ledger
        self._clock = clock
        self._file = file
        self._asked = asyncio.Event()
        self.gateways: dict[AccountId, str] = {}
        self.edges: dict[AccountId, str] = {}
        self.miners: dict[AccountId, str] = {}
        self._recall()

    def is_gateway(self, account: AccountId) -> bool:
        """Whether it is a registered gateway."""
        return self._known(account, self.gateways)

    def is_reader(self, account: AccountId) -> bool:
        """Whether it may read sealed bytes: a registered gateway or edge."""
        return self._known(account, self.gateways, self.edges)

    def is_node(self, account: AccountId) -> bool:
        """Whether it is a registered node of any kind."""
        return self._known(account, self.gateways, self.edges, self.miners)

    def _known(self, account: AccountId, *sets: dict[AccountId, str]) -> bool:
        if any(account in members for members in sets):
            return True
        self._asked.set()
        return False

    async def run(self) -> None:
        """Read the sets again for ever; cancel to end."""
        while True:
            try:
                await self.refresh()
            except (RemoteError, Unreachable) as error:
                log.info("the ledger does not tell who is registered now: %s", error)
            await self._clock.sleep(SOONEST_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every - SOONEST_SECONDS):
                    await self._asked.wait()

    async def refresh(self) -> None:
        """Read the sets once. Raises RemoteError, Unreachable."""
        self._asked.clear()
        gateways = {key: row.address for key, row in (await self._ledger.gateways()).items()}
        edges = {key: row.address for key, row in (await self._ledger.edges()).items()}
        miners = {row.id: row.address for row in await self._ledger.miners()}
        if (gateways, edges, miners) == (self.gateways, self.edges, self.miners):
            return
        self.gateways, self.edges, self.miners = gateways, edges, miners
        log.info(
            "registered: %d gateways, %d edges, %d miners", len(gateways), len(edges), len(miners)
        )
        self._keep()

    def _keep(self) -> None:
        if self._file is None:
            return
        document = _File(FORMAT, *map(_hex, (self.gateways, self.edges, self.miners)))
        try:
            write_durably(self._file, msgspec.json.encode(document), 0o600)
        except OSError as error:
            log.warning("%s: %s", self._file, error.strerror)

    def _recall(self) -> None:
        if self._file is None:
            return
        try:
            document = msgspec.json.decode(self._file.read_bytes(), type=_File)
            found = [
                {AccountId(bytes.fromhex(key)): address for key, address in rows.items()}
                for rows in (document.gateways, document.edges, document.miners)
            ]
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:  # a cache: the ledger tells it again
            log.warning("%s is not readable and is made anew: %s", self._file, error)
            return
        if document.format == FORMAT:
            self.gateways, self.edges, self.miners = found


def _hex(members: dict[AccountId, str]) -> dict[str, str]:
    return {key.hex(): address for key, address in members.items()}
