"""A ledger that makes blocks until it is killed: `python ledger_process.py DIRECTORY`."""

import sys
from pathlib import Path

from chain.application import Application
from chain.consensus.embedded import EmbeddedDriver
from chain.genesis import single_operator
from chain.keys.identity import Identity
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.envelope import sign

VALIDATOR, OPERATOR = Identity(b"v" * 32), Identity(b"o" * 32)
GENESIS = single_operator("killed", 10**18, VALIDATOR.id, OPERATOR.id, 1)


class Stepping:
    """Each look at the clock is 0.3 s later."""

    now = 10**18

    def now_ns(self) -> int:
        self.now += 3 * 10**8
        return self.now

    def monotonic(self) -> float:
        return self.now / 1e9

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - the face of a Clock
        raise AssertionError("nobody waits here")


def main() -> None:
    store = LmdbStore(Path(sys.argv[1]))
    clock = Stepping()
    driver = EmbeddedDriver(Application(store, GENESIS), store, VALIDATOR, clock)
    if driver.last is not None:
        clock.now = driver.last.time_ns
    while True:
        nonce = driver.application.next_nonce(OPERATOR.id)
        for at in range(nonce, nonce + 20):
            body = Transfer(to=at.to_bytes(32, "big"), amount=1)
            driver.accept(sign(OPERATOR, body, chain="killed", nonce=at, fee=0, expiry=10**9))
        height = driver.make_block().height
        sys.stdout.write(f"{height}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
