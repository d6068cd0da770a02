"""An edge's entry on the ledger: made at its first start, brought up to date at every other."""

import logging

from chain.client import LedgerClient, TransactionFailed
from chain.clock import Clock
from chain.keys.identity import Identity
from chain.ledger.transactions.nodes import RegisterEdge
from chain.net.address import with_identity
from chain.net.transport import RemoteError, Unreachable

log = logging.getLogger(__name__)

_RETRY_FIRST, _RETRY_MAX = 0.5, 30.0


async def register_edge(
    ledger: LedgerClient, identity: Identity, address: str, clock: Clock
) -> None:
    """Return once the ledger knows the edge at `address`: it may start later than we do."""
    pause = _RETRY_FIRST
    while True:
        try:
            known = (await ledger.edges()).get(identity.id)
            if known is None or known.address != address:
                await ledger.submit(identity, RegisterEdge(address=address))
        except (RemoteError, Unreachable, TransactionFailed) as error:
            log.warning("not registered yet: %s", error)
        else:
            log.info("registered at %s", with_identity(identity.id, address))
            return
        await clock.sleep(pause)
        pause = min(_RETRY_MAX, pause * 2)
