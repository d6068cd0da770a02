"""A miner's entry on the ledger: made at its first start, brought up to date at every other."""

import asyncio

from chain.client import LedgerClient, TransactionFailed
from chain.keys.identity import Identity
from chain.ledger.transactions.miners import RegisterMiner, UpdateMiner
from chain.net.transport import RemoteError
from miner.node import Registration


class LedgerRegistrar:
    """The Registrar of a miner that signs for itself."""

    def __init__(
        self, ledger: LedgerClient, identity: Identity, *, domain: str, price: int
    ) -> None:
        """`domain` fails together (operator/host/disk); `price` is the miner's vote."""
        self._ledger = ledger
        self._identity = identity
        self._domain = domain
        self._price = price
        self._lock = asyncio.Lock()

    async def register(self, registration: Registration) -> None:
        """See Registrar: nothing is sent when the ledger knows it all."""
        async with self._lock:
            known = await self._ledger.miner(registration.miner)
            price = self._price or (await self._ledger.price()).current
            body: RegisterMiner | UpdateMiner
            if known is None:
                body = RegisterMiner(
                    owner=registration.miner,
                    address=registration.address,
                    domain=self._domain,
                    pledged_bytes=registration.pledged,
                    min_price=price,
                )
            elif (known.address, known.domain, known.pledged_bytes) != (
                registration.address,
                self._domain,
                registration.pledged,
            ):
                body = UpdateMiner(
                    address=registration.address,
                    domain=self._domain,
                    pledged_bytes=registration.pledged,
                    min_price=self._price or known.min_price,
                )
            else:
                return
            try:
                await self._ledger.submit(self._identity, body)
            except TransactionFailed as error:
                raise RemoteError(error.code, error.reason) from None
