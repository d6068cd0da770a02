"""Ledger figures as JSON: native transfers and auction bids, in CPU seconds (user + system).

python benchmarks/ledger.py [--accounts 100000] [--transactions 10000] [--bids 1000000]
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.figures import Figure
from chain.application import Application
from chain.economy.price import clear
from chain.genesis import Allocation, single_operator
from chain.keys.identity import Identity
from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.envelope import sign


def transfers(accounts: int, count: int) -> dict[str, float]:
    """Transfers between accounts drawn at random: signature, state, tree, one durable commit."""
    chance = random.Random(1)
    signers = [Identity.generate(chance.randbytes) for _ in range(2_000)]
    ids = [bytes(signer.id) for signer in signers]
    ids += [chance.randbytes(32) for _ in range(accounts - len(ids))]
    genesis = single_operator("bench", 10**18, signers[0].id, signers[0].id, 3600)
    rich = [Allocation(account.hex(), 10**6) for account in ids]
    genesis = type(genesis)(
        chain_id="bench", time_ns=10**18, validators=genesis.validators, accounts=rich
    )
    nonces = dict.fromkeys(range(len(signers)), 0)
    raws = []
    for _ in range(count):
        at = chance.randrange(len(signers))
        body = Transfer(to=chance.choice(ids), amount=1)
        raws.append(sign(signers[at], body, chain="bench", nonce=nonces[at], fee=0, expiry=10**6))
        nonces[at] += 1
    with tempfile.TemporaryDirectory() as directory:
        store = LmdbStore(Path(directory))
        application = Application(store, genesis)
        application.init_chain()
        begun, good = time.process_time(), 0
        for height, first in enumerate(range(0, count, 1_000), 1):
            outcome = application.finalize_block(
                height, 10**18 + height, bytes(32), raws[first : first + 1_000]
            )
            application.commit({})
            good += sum(result.ok for result in outcome.results)
        spent = time.process_time() - begun
        store.close()
    assert good == count
    return {"accounts": len(ids), "transactions_per_cpu_second": round(count / spent)}


def auction(bids: int) -> dict[str, float]:
    """One clearing in memory."""
    chance = random.Random(1)
    prices = [chance.randrange(1, 10**6) for _ in range(bids)]
    sizes = [chance.randrange(1, 1_000) for _ in range(bids)]
    ties = [chance.getrandbits(64) for _ in range(bids)]
    begun = time.process_time()
    outcome = clear(prices, sizes, ties, sum(sizes) // 2, 100)
    spent = time.process_time() - begun
    return {"bids": bids, "cpu_seconds": round(spent, 3), "winners": len(outcome.winners)}


def measure(_folder: Path, *, quick: bool) -> list[Figure]:
    """Figures against their bars."""
    accounts, count, bids = (1_000, 1_000, 1_000) if quick else (100_000, 10_000, 1_000_000)
    sent, cleared = transfers(accounts, count), auction(bids)
    rate, seconds = sent["transactions_per_cpu_second"], cleared["cpu_seconds"]
    return [
        Figure("native transactions", rate, "per CPU s", 3_000, at_least=True,
               note=f"{accounts:,} accounts").tell(),
        Figure(f"{bids:,} bids cleared", seconds, "CPU s", 2.0).tell(),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--transactions", type=int, default=10_000)
    parser.add_argument("--bids", type=int, default=1_000_000)
    options = parser.parse_args()
    figures = {
        "transfer": transfers(options.accounts, options.transactions),
        "auction": auction(options.bids),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
