"""How a node finds the ledger, and whom it trusts there (docs/adr/085-joining-a-ledger.md).

`--join` is `ID@HOST:PORT`, or `HOST:PORT` when a genesis names the validator. The first join pins
the genesis in DIR/chain/genesis.json; then that file decides and the ledger need not be up.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from chain import protocol
from chain.client import LedgerClient
from chain.clock import Clock
from chain.errors import InvalidGenesis
from chain.format import write_durably
from chain.genesis import GENESIS_BYTES_MAX, Genesis, parse, pinned_genesis
from chain.ids import AccountId
from chain.keys.identity import Identity
from chain.net.address import host_and_port, split_identity, with_identity
from chain.net.nodes import NodeTransport
from chain.net.rpc import AddressError
from chain.net.transport import RemoteError, Transport, Unreachable
from chain.process import NodeError

ASK_SECONDS, RETRY_SECONDS = 10.0, 0.2
_PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger node's address; over tcp also who it must prove to be and the pinned genesis."""

    address: str
    identity: AccountId | None = None
    genesis: Genesis | None = None

    def client(self, transport: Transport) -> LedgerClient:
        """A client of it. Raises AddressError."""
        return LedgerClient(transport.connect(self.address, self.identity), self.genesis)


async def join_as(
    identity: Identity, text: str, data_dir: Path, clock: Clock, genesis_file: Path | None
) -> Ledger:
    """`join` before a node has a transport of its own. Raises NodeError."""
    transport = NodeTransport(identity)
    try:
        return await join(text, data_dir, transport, clock, genesis_file)
    finally:
        await transport.close()


async def join(
    text: str, data_dir: Path, transport: Transport, clock: Clock, genesis_file: Path | None = None
) -> Ledger:
    """The ledger that `--join` names; its genesis is pinned when this returns.

    `ipc://PATH` needs no identity: the directory's mode guards it. Raises NodeError.
    """
    if text.startswith("ipc://"):
        return Ledger(text)
    try:
        identity, address = split_identity(text)
    except AddressError as error:
        raise NodeError(f"--join {error}") from None
    pinned = pinned_genesis(data_dir)
    known = _read(pinned) if pinned.exists() else None
    if genesis_file is not None:
        given = _read(genesis_file)
        if known is not None and known.digest() != given.digest():
            raise NodeError(f"--genesis {genesis_file}: this node joined another ledger ({pinned})")
        known = given
    identity = _validator(identity, known, text)
    if known is None:
        known = await _fetch(transport, address, identity, clock)
        if identity not in known.validator_ids():
            raise NodeError(f"--join {text}: its genesis does not name it as a validator")
    if not pinned.exists():
        _pin(pinned, known)
    return Ledger(address, identity, known)


def _validator(identity: AccountId | None, genesis: Genesis | None, text: str) -> AccountId:
    """Who the node must prove to be. CURVE cannot trust whoever answers first: it needs a key."""
    if genesis is None:
        if identity is None:
            raise NodeError(
                f"--join {text}: whose address is it? Say --join ID@HOST:PORT as 'cumulus chain'"
                " printed it, or --genesis FILE (a copy of its chain/genesis.json)"
            )
        return identity
    validators = genesis.validator_ids()
    if identity is not None:
        if identity not in validators:
            raise NodeError(f"--join {text}: not a validator of {genesis.chain_id}, joined before")
        return identity
    if len(validators) > 1:
        raise NodeError(f"--join {text}: say which validator it is, ID@HOST:PORT")
    return validators[0]


async def _fetch(transport: Transport, address: str, identity: AccountId, clock: Clock) -> Genesis:
    """The genesis as the ledger node that proved to be `identity` tells it. Raises NodeError."""
    peer = transport.connect(address, identity)
    end = clock.monotonic() + ASK_SECONDS
    try:
        while True:
            try:
                return parse((await peer.ask(protocol.GetGenesis(), timeout=5.0)).json)
            except Unreachable:
                if clock.monotonic() >= end:
                    raise NodeError(await _why(address, identity)) from None
            await clock.sleep(RETRY_SECONDS)
    except (RemoteError, InvalidGenesis) as error:
        raise NodeError(f"--join {with_identity(identity, address)}: {error}") from None
    finally:
        peer.close()


async def _why(address: str, identity: AccountId) -> str:
    """Whether nobody is there, or somebody else."""
    host, port = host_and_port(address)
    shown = f"--join {with_identity(identity, address)}"
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    except (OSError, TimeoutError):
        return f"{shown}: nobody answers there; is the ledger node up and its port open?"
    return f"{shown}: who answers there does not prove to be that identity; nothing was sent"


def _read(path: Path) -> Genesis:
    try:
        with path.open("rb") as file:
            return parse(file.read(GENESIS_BYTES_MAX + 1))
    except OSError as error:
        raise NodeError(f"{path}: {error.strerror}") from None
    except InvalidGenesis as error:
        raise NodeError(f"{path}: {error}") from None


def _pin(path: Path, genesis: Genesis) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, genesis.to_json())
    except OSError as error:
        raise NodeError(f"{path}: {error.strerror}") from None
