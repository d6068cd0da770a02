"""`cumulus market …`: lease storage, bid for it, see leases and the price.

Acts as DIR/keys/operator: the owner of a network of its own, or of a gateway elsewhere.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from chain.tokens import parse_tokens, tokens_text
from gateway.commands.failures import Failed, WrongUse
from gateway.commands.options import Parsers, action, group
from gateway.commands.session import network_of, show, size_text, table
from gateway.network import Network
from gateway.values import parse_size

if TYPE_CHECKING:
    from chain.client import LedgerClient
    from chain.keys.identity import Identity

MIB = 1 << 20
MONTHS_MAX = 120  # of one lease; chain/ledger/transactions/body.py
Answer = TypeVar("Answer")


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(parsers, "market", "bid for storage, see leases and the price",
                    "cumulus market price")  # fmt: skip
    parser = action(
        actions, "lease", lease, "lease storage at once at the instant price",
        "cumulus market lease --size 10GiB --months 1",
    )  # fmt: skip
    parser.add_argument("--size", required=True, metavar="SIZE", help="whole MiB")
    parser.add_argument("--months", type=int, default=1, metavar="N")
    parser = action(
        actions, "bid", bid, "bid for storage in the epoch auction",
        "cumulus market bid --price 0.02 --size 100GiB --months 3",
    )  # fmt: skip
    parser.add_argument(
        "--price", required=True, metavar="TOKENS", help="at most this per GiB and month"
    )
    parser.add_argument("--size", required=True, metavar="SIZE", help="whole MiB")
    parser.add_argument("--months", type=int, default=1, metavar="N")
    parser.add_argument(
        "--epochs", type=int, default=24, metavar="N", help="how long the bid stands"
    )
    action(actions, "leases", leases, "leases and open bids", "cumulus market leases --json")
    action(actions, "price", price, "what storage costs now", "cumulus market price")


def lease(options: argparse.Namespace) -> int:
    """Buy a lease; the gateway of this directory uses it from then on."""
    size = _size(options.size)
    if not 1 <= options.months <= MONTHS_MAX:
        raise WrongUse(f"--months is 1 to {MONTHS_MAX}")

    async def buy(client: "LedgerClient", owner: "Identity") -> tuple[bytes, int]:
        key = await client.buy_lease(owner, size=size, months=options.months)
        return key, (await client.account(owner.id)).balance

    key, left = _with_ledger(network_of(options), buy)
    plain = {"lease": key.hex(), "bytes": size, "months": options.months, "balance": left}
    return show(
        options,
        plain,
        lambda: (
            f"lease {key.hex()}: {size_text(size)} for {options.months} months;"
            f" {tokens_text(left)} tokens are left"
        ),
    )


def bid(options: argparse.Namespace) -> int:
    """Commit a bid; the node reveals it in the next epoch."""
    units, size = _tokens(options.price), _size(options.size)
    if options.months < 1 or options.epochs < 1:
        raise WrongUse("--months and --epochs are at least 1")

    async def place(client: "LedgerClient", owner: "Identity") -> bytes:
        made = await client.bid(
            owner, price=units, size=size, months=options.months, epochs=options.epochs
        )
        return made.bid

    key = _with_ledger(network_of(options), place).hex()
    plain = {"bid": key, "price": units, "bytes": size, "months": options.months}
    return show(options, plain, lambda: f"bid {key}: {size_text(size)} for {options.months} months")


def leases(options: argparse.Namespace) -> int:
    """Print the owner's leases and the bids that wait; won bids become leases first."""

    async def collect(client: "LedgerClient", owner: "Identity") -> list[dict[str, object]]:
        await client.claim_all(owner)
        held = await client.leases(owner.id)
        waiting = await client.bids(owner.id)
        rows: list[dict[str, object]] = []
        for key, lease in held.items():
            rows.append(_row(key, "lease", lease.state, lease.size, lease.used, lease.price))
        for key, found in waiting.items():
            rows.append(_row(key, "bid", found.state, found.size, 0, found.price))
        return rows

    found = _with_ledger(network_of(options), collect)
    heads = ("id", "kind", "state", "bytes", "used", "price")
    rows: list[tuple[object, ...]] = [tuple(row[head] for head in heads) for row in found]
    return show(options, found, lambda: table(tuple(head.upper() for head in heads), rows))


def _row(key: bytes, kind: str, state: str, size: int, used: int, cost: int) -> dict[str, object]:
    return {
        "id": key.hex(),
        "kind": kind,
        "state": state,
        "bytes": size,
        "used": used,
        "price": cost,
    }


def price(options: argparse.Namespace) -> int:
    """Print the current prices."""

    async def collect(client: "LedgerClient", _: "Identity") -> dict[str, int]:
        prices = await client.price()
        return {
            "current": prices.current,
            "instant": prices.instant,
            "reserve": prices.reserve,
            "epoch": prices.epoch,
            "epoch_end_ns": prices.epoch_end_ns,
        }

    found = _with_ledger(network_of(options), collect)
    return show(
        options,
        found,
        lambda: (
            "\n".join(
                f"{name:<8} {tokens_text(found[name])} tokens per GiB and month"
                for name in ("current", "instant", "reserve")
            )
            + f"\nepoch    {found['epoch']}"
        ),
    )


def _tokens(text: str) -> int:
    try:
        return parse_tokens(text)
    except ValueError as error:
        raise WrongUse(f"--price {text[:40]!r}: {error}") from None


def _size(text: str) -> int:
    try:
        size = parse_size(text)
    except ValueError as error:
        raise WrongUse(f"--size {text[:40]!r}: {error}") from None
    if size < MIB or size % MIB:
        raise WrongUse(f"--size {text[:40]!r}: whole MiB, at least one")
    return size


def _with_ledger(
    network: Network, use: Callable[["LedgerClient", "Identity"], Awaitable[Answer]]
) -> Answer:
    from chain.errors import LedgerError
    from chain.net.nodes import NodeTransport
    from gateway.launch import owner_of

    async def session() -> Answer:
        owner = owner_of(network.config.data_dir)
        transport = NodeTransport(owner)
        try:
            return await use(network.ledger().client(transport), owner)
        finally:
            await transport.close()

    try:
        return asyncio.run(session())
    except LedgerError as error:
        raise Failed(str(error)) from None
