"""A node that lies: no answer that claims to be proven passes unless a signed block says so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chain.client import LedgerClient
from chain.config import ChainConfig
from chain.errors import InvalidBlock, InvalidProof
from chain.genesis import Genesis, single_operator
from chain.keys.identity import Identity
from chain.ledger import block, records
from chain.ledger.block import Block, Header, SignedHeader
from chain.ledger.records import Account
from chain.ledger.store import MemoryStore
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.tree import Proof, root_from
from chain.net.memory import MemoryNetwork, MemoryTransport
from chain.net.simulation import EPOCH_NS, SimClock, simulate
from chain.net.transport import Message, Peer, Reply
from chain.node import ChainNode
from chain.protocol import BlockList, GetBlocks, GetHeader, ProofFields, Query, Row, Rows

VALIDATOR, OPERATOR, ANN, EVE = (Identity(bytes([n]) * 32) for n in (1, 2, 3, 4))
GENESIS = single_operator("sim", EPOCH_NS, VALIDATOR.id, OPERATOR.id)
Lie = Callable[[Any], Any]


class Liar:
    """A peer that changes what an honest node answered."""

    def __init__(self, honest: Peer) -> None:
        self._honest = honest
        self.lie: Lie = lambda answer: answer

    async def ask(self, message: Message[Reply], *, timeout: float = 30.0) -> Reply:  # noqa: ASYNC109
        answer = await self._honest.ask(message, timeout=timeout)
        if isinstance(message, Query | GetHeader | GetBlocks):
            answer = self.lie(answer)
        return answer

    def close(self) -> None:
        self._honest.close()


@asynccontextmanager
async def lying(genesis: Genesis = GENESIS) -> AsyncIterator[tuple[LedgerClient, Liar]]:
    """A client that trusts `genesis`, and the liar between it and an honest node."""
    network = MemoryNetwork()
    node = ChainNode(
        ChainConfig(Path("unused"), "memory://chain", block_seconds=0.01),
        MemoryTransport(network, name="chain"), SimClock(), MemoryStore(), GENESIS, VALIDATOR,
    )  # fmt: skip
    stop = asyncio.Event()
    user = MemoryTransport(network, name="user")
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(stop))
        await asyncio.sleep(0)
        liar = Liar(user.connect("memory://chain"))
        honest = LedgerClient(user.connect("memory://chain"), GENESIS)
        for amount in (5, 7):
            await honest.submit(OPERATOR, Transfer(to=ANN.id, amount=amount))
        yield LedgerClient(liar, genesis), liar
        await user.close()
        stop.set()


def signed(header: bytes, signature: bytes) -> SignedHeader:
    return SignedHeader(header, signature)


def forged(rows: Rows, signer: Identity) -> Rows:
    """A block of the liar's own, over a state in which Ann is rich."""
    value = records.encode(Account(10**9, 0))
    empty = ProofFields(0, b"", [], None)
    root = root_from(Proof(0, b"", ()), records.ACCOUNTS.prefix + ANN.id, value)
    assert root is not None
    header = Header(
        chain="sim", height=rows.height, time_ns=EPOCH_NS, previous=bytes(32),
        app_hash=block.app_hash(root, GENESIS.parameters.digest()), transactions=bytes(32),
        results=bytes(32), proposer=signer.id,
    )  # fmt: skip
    return Rows(rows.height, [Row(ANN.id, value)], empty, block.sign(signer, header))


def rich(rows: Rows) -> Rows:
    return replace(rows, rows=[Row(ANN.id, records.encode(Account(10**9, 0)))])


LIES: dict[str, Lie] = {
    "another value": rich,
    "an absence": lambda rows: replace(rows, rows=[]),
    "no proof": lambda rows: replace(rows, proof=None),
    "no header": lambda rows: replace(rows, signed=None),
    "a proof without siblings": lambda rows: replace(
        rows, proof=replace(rows.proof, siblings=[], present=b"", depth=0)
    ),
    "a turned sibling": lambda rows: replace(
        rows, proof=replace(rows.proof, siblings=rows.proof.siblings[::-1])
    ),
    "a shorter path": lambda rows: replace(
        rows, proof=replace(rows.proof, depth=rows.proof.depth - 1)
    ),
    "another leaf beside it": lambda rows: replace(
        rows, proof=replace(rows.proof, other=[bytes(32), bytes(32)])
    ),
    "a broken other leaf": lambda rows: replace(rows, proof=replace(rows.proof, other=[bytes(32)])),
    "a negative depth": lambda rows: replace(rows, proof=replace(rows.proof, depth=-1)),
    "a wrong signature": lambda rows: replace(rows, signed=signed(rows.signed.header, bytes(64))),
    "a short signature": lambda rows: replace(rows, signed=signed(rows.signed.header, b"")),
    "no header at all": lambda rows: replace(rows, signed=signed(b"", bytes(64))),
    "a block of its own": lambda rows: forged(rows, EVE),
    "a second row": lambda rows: replace(rows, rows=[*rows.rows, *rich(rows).rows]),
    "two rows": lambda rows: replace(rows, rows=[rich(rows).rows[0], *rows.rows]),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_about_the_state_is_refused(name: str) -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            assert (await client.proven("accounts", ANN.id))[1] == Account(12, 0)
            liar.lie = LIES[name]
            with pytest.raises((InvalidProof, InvalidBlock)):
                await client.proven("accounts", ANN.id)

    simulate(run())


def test_an_old_answer_names_the_old_block_and_never_passes_under_a_newer_one() -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            kept: list[Rows] = []

            def keep(rows: Rows) -> Rows:
                kept.append(rows)
                return rows

            liar.lie = keep
            old, record = await client.proven("accounts", ANN.id)
            assert record == Account(12, 0)
            liar.lie = lambda answer: answer
            await client.submit(OPERATOR, Transfer(to=ANN.id, amount=1))
            new, record = await client.proven("accounts", ANN.id)
            assert (new.height, record) == (old.height + 1, Account(13, 0))
            liar.lie = lambda _: kept[0]
            header, record = await client.proven("accounts", ANN.id)
            assert (header.height, record) == (old.height, Account(12, 0))
            liar.lie = lambda rows: replace(kept[0], signed=rows.signed, height=rows.height)
            with pytest.raises(InvalidProof, match="does not follow"):
                await client.proven("accounts", ANN.id)

    simulate(run())


def test_an_answer_about_another_key_is_refused() -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            answers: list[Rows] = []

            def keep(rows: Rows) -> Rows:
                answers.append(rows)
                return rows

            liar.lie = keep
            await client.proven("accounts", OPERATOR.id)
            liar.lie = lambda _: answers[0]
            with pytest.raises(InvalidProof):
                await client.proven("accounts", ANN.id)
            with pytest.raises(InvalidProof):
                await client.proven("miners", OPERATOR.id)

    simulate(run())


def test_absence_is_proven_and_cannot_be_invented() -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            assert (await client.proven("accounts", EVE.id))[1] is None
            liar.lie = lambda rows: replace(rows, rows=[Row(EVE.id, records.encode(Account(1, 0)))])
            with pytest.raises(InvalidProof):
                await client.proven("accounts", EVE.id)

    simulate(run())


def test_headers_of_strangers_and_of_other_chains_are_refused() -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            header = await client.header()
            liar.lie = lambda _: block.sign(EVE, replace(header, proposer=EVE.id))
            with pytest.raises(InvalidBlock, match="nobody"):
                await client.header()
            liar.lie = lambda _: block.sign(VALIDATOR, replace(header, chain="other"))
            with pytest.raises(InvalidBlock, match="not of"):
                await client.header()
        async with lying(replace(GENESIS, validators=[EVE.id.hex()])) as (client, _):
            with pytest.raises(InvalidBlock, match="nobody"):
                await client.proven("accounts", ANN.id)
        parameters = replace(GENESIS.parameters, fee_min=0, burn_permille=1)
        async with lying(replace(GENESIS, parameters=parameters)) as (client, _):
            with pytest.raises(InvalidProof):
                await client.proven("accounts", ANN.id)

    simulate(run())


def test_a_height_that_is_not_the_one_that_was_asked_for_is_refused() -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            first = block.sign(VALIDATOR, await client.header(1))
            liar.lie = lambda _: first
            assert (await client.header(1)).height == 1
            with pytest.raises(InvalidBlock, match="height"):
                await client.header(2)

    simulate(run())


def test_blocks_are_those_that_were_signed_in_their_order() -> None:
    async def run() -> None:
        async with lying() as (client, liar):
            honest = await client.blocks(0)
            assert [len(each.transactions) for each in honest] == [1, 1]
            assert await client.blocks(2) == honest[1:]
            first, second = honest
            for lie in (
                [second, first],
                [second],
                [Block(first.signed, second.transactions)],
                [Block(first.signed, [])],
                [Block(signed(first.signed.header, bytes(64)), first.transactions)],
            ):

                def reorder(_: BlockList, lie: list[Block] = lie) -> BlockList:
                    return BlockList([each.encoded() for each in lie])

                liar.lie = reorder
                with pytest.raises(InvalidBlock):
                    await client.blocks(0)

    simulate(run())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_flipped_bit_of_an_answer_changes_what_is_believed(data: st.DataObject) -> None:
    def flip(raw: bytes) -> bytes:
        changed = bytearray(raw)
        if changed:
            at = data.draw(st.integers(0, len(changed) - 1))
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        return bytes(changed)

    def lie(rows: Rows) -> Rows:
        assert rows.proof is not None
        assert rows.signed is not None
        match data.draw(st.sampled_from(["value", "sibling", "present", "header", "signature"])):
            case "value":
                return replace(rows, rows=[Row(ANN.id, flip(rows.rows[0].value))])
            case "sibling":
                siblings = list(rows.proof.siblings)
                at = data.draw(st.integers(0, len(siblings) - 1))
                siblings[at] = flip(siblings[at])
                return replace(rows, proof=replace(rows.proof, siblings=siblings))
            case "present":
                return replace(rows, proof=replace(rows.proof, present=flip(rows.proof.present)))
            case "header":
                return replace(rows, signed=signed(flip(rows.signed.header), rows.signed.signature))
        return replace(rows, signed=signed(rows.signed.header, flip(rows.signed.signature)))

    async def run() -> None:
        async with lying() as (client, liar):
            liar.lie = lie
            with pytest.raises((InvalidProof, InvalidBlock)):
                await client.proven("accounts", ANN.id)

    simulate(run())
