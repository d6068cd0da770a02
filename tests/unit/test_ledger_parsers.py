"""Everything that comes from outside: genesis, block, header, certificate, mempool, big pledges."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chain import dagcbor, genesis
from chain.application import Application
from chain.certificate import verify
from chain.consensus.mempool import Mempool
from chain.errors import InvalidBlock, InvalidCertificate, InvalidGenesis, Rejected, WrongGenesis
from chain.genesis import SUPPLY_MAX, Allocation, single_operator
from chain.ledger.block import Block, Header, SignedHeader, open_header, parse_block, sign
from chain.ledger.store import MemoryStore
from chain.ledger.transactions import envelope
from chain.ledger.transactions.accounts import Transfer
from chain.ledger.transactions.objects import RECEIPTS_MAX, ObjectBatch
from chain.ledger.transactions.registry import REGISTRY
from chain.proofs import merkle
from chain.receipts import StorageReceipt
from tests.unit.ledger_fixture import START, Ledger, identity, with_parameters

VALIDATOR, OPERATOR, USER = identity(2), identity(1), identity(5)
GENESIS = single_operator("test", START, VALIDATOR.id, OPERATOR.id)
HEADER = Header(
    chain="test", height=7, time_ns=START, previous=bytes(32), app_hash=b"a" * 32,
    transactions=b"t" * 32, results=b"r" * 32, proposer=VALIDATOR.id,
)  # fmt: skip
SIGNED = sign(VALIDATOR, HEADER)
VALIDATORS = [VALIDATOR.id]

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)


# ---------------------------------------------------------------- genesis
@given(st.binary(max_size=200))
def test_random_bytes_are_no_genesis(raw: bytes) -> None:
    with pytest.raises(InvalidGenesis):
        genesis.parse(raw)


@given(st.data())
def test_any_field_of_any_value_is_a_genesis_or_a_typed_refusal(data: st.DataObject) -> None:
    fields = json.loads(GENESIS.to_json())
    target = data.draw(st.sampled_from([fields, fields["parameters"], fields["accounts"][0]]))
    name = data.draw(st.sampled_from([*sorted(target), "surplus"]))
    target[name] = data.draw(json_values)
    with contextlib.suppress(InvalidGenesis):
        again = genesis.parse(json.dumps(fields).encode())
        assert genesis.parse(again.to_json()) == again
        Application(MemoryStore(), again).init_chain()


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_of_a_genesis_never_passes_for_the_same(position: int, bit: int) -> None:
    raw = bytearray(GENESIS.to_json())
    raw[position % len(raw)] ^= 1 << bit
    with contextlib.suppress(InvalidGenesis):
        other = genesis.parse(bytes(raw))
        assert other.digest() != GENESIS.digest() or other == GENESIS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format 2"),
        ({"validators": []}, "not a genesis"),
        ({"validators": [VALIDATOR.id.hex()] * 2}, "named twice"),
        ({"chain_id": "Big Words"}, "not a genesis"),
        ({"accounts": [Allocation(USER.id.hex(), 1)] * 2}, "allocated twice"),
        (
            {"accounts": [Allocation(n.id.hex(), SUPPLY_MAX) for n in (USER, VALIDATOR)]},
            "units are allocated",
        ),
        (
            {"parameters": replace(GENESIS.parameters, burn_permille=600, treasury_permille=500)},
            "more than everything",
        ),
    ],
)
def test_a_genesis_that_contradicts_itself_says_how(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidGenesis, match=reason):
        genesis.parse(replace(GENESIS, **changes).to_json())


def test_deep_and_oversize_genesis_files_are_refused() -> None:
    for raw in (b"[" * 100_000, b" " * (genesis.GENESIS_BYTES_MAX + 1)):
        with pytest.raises(InvalidGenesis):
            genesis.parse(raw)


def test_a_store_of_another_genesis_is_refused() -> None:
    store = MemoryStore()
    Application(store, GENESIS).init_chain()
    assert not Application(store, GENESIS).is_new
    with pytest.raises(WrongGenesis):
        Application(store, replace(GENESIS, chain_id="other"))


# ---------------------------------------------------------------- header and block
def test_every_flipped_bit_of_a_signed_header_is_refused() -> None:
    assert open_header(SIGNED, "test", VALIDATORS) == HEADER
    for position in range(len(SIGNED.header) * 8):
        raw = bytearray(SIGNED.header)
        raw[position // 8] ^= 1 << position % 8
        with pytest.raises(InvalidBlock):
            open_header(SignedHeader(bytes(raw), SIGNED.signature), "test", VALIDATORS)
    for position in range(64):
        signature = bytearray(SIGNED.signature)
        signature[position] ^= 1 << position % 8
        with pytest.raises(InvalidBlock):
            open_header(SignedHeader(SIGNED.header, bytes(signature)), "test", VALIDATORS)


def test_a_header_of_another_chain_or_signer_is_refused() -> None:
    with pytest.raises(InvalidBlock, match="not of"):
        open_header(SIGNED, "other", VALIDATORS)
    with pytest.raises(InvalidBlock, match="nobody"):
        open_header(SIGNED, "test", [USER.id])
    forged = SignedHeader(SIGNED.header, sign(USER, replace(HEADER, proposer=USER.id)).signature)
    with pytest.raises(InvalidBlock, match="signature"):
        open_header(forged, "test", VALIDATORS)


@given(st.binary(max_size=200), st.binary(max_size=70))
def test_random_bytes_are_no_header(header: bytes, signature: bytes) -> None:
    with pytest.raises(InvalidBlock):
        open_header(SignedHeader(header, signature), "test", VALIDATORS)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_block(raw: bytes) -> None:
    with pytest.raises(InvalidBlock):
        parse_block(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    )
)
@example([[b"", b"", None], []])
@example([[b"", b""], [], b""])
def test_other_canonical_values_are_no_block(value: Any) -> None:
    with contextlib.suppress(InvalidBlock):
        raw = dagcbor.encode(value)
        assert parse_block(raw).encoded() == raw


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=4), st.data())
def test_a_damaged_block_is_refused_or_another_block(bodies: list[bytes], data: Any) -> None:
    block = Block(SIGNED, bodies)
    raw = block.encoded()
    assert parse_block(raw) == block
    changed = bytearray(raw)
    changed[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(changed), raw[:-1], raw + b"\0"):
        with contextlib.suppress(InvalidBlock):
            assert parse_block(damaged) != block


# ---------------------------------------------------------------- certificate
@given(st.binary(max_size=300))
def test_random_bytes_are_no_certificate(raw: bytes) -> None:
    with pytest.raises(InvalidCertificate):
        verify(raw, GENESIS)


_FIELDS = {
    "format": 1, "leaf": b"\xa0", "index": 0, "path": [], "gateway": bytes(32), "number": 1,
    "batch": b"\x80", "depth": 0, "present": b"", "siblings": [], "parameters": bytes(32),
    "header": SIGNED.header, "signature": SIGNED.signature,
}  # fmt: skip


@given(
    st.sampled_from(sorted(_FIELDS)),
    st.none() | st.integers(-1, 2**63 - 1) | st.binary(max_size=70) | st.text(max_size=5)
    | st.lists(st.binary(min_size=32, max_size=32), max_size=300),
)  # fmt: skip
def test_a_certificate_of_right_shape_and_wrong_content_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidCertificate):
        verify(dagcbor.encode(_FIELDS | {name: value}), GENESIS)


# ---------------------------------------------------------------- mempool and proposals
def test_the_mempool_is_bounded_by_number_and_bytes() -> None:
    mempool = Mempool(transactions_max=3, bytes_max=100)
    for raw in (b"a" * 40, b"b" * 40):
        mempool.check_room(raw)
        mempool.add(raw)
    with pytest.raises(Rejected, match="mempool_full"):
        mempool.check_room(b"c" * 21)
    digest = mempool.add(b"c" * 20)
    with pytest.raises(Rejected, match="mempool_full"):
        mempool.check_room(b"")
    mempool.remove([digest, digest, bytes(32)])
    assert (len(mempool), mempool.waiting()) == (2, [b"a" * 40, b"b" * 40])
    mempool.check_room(b"c" * 20)


def receipts_of(count: int) -> list[StorageReceipt]:
    return [StorageReceipt(USER.id, bytes(32), 1, n, START, bytes(64)) for n in range(count)]


def test_a_transaction_larger_than_a_block_never_waits_for_one() -> None:
    ledger = Ledger(genesis=with_parameters(block_bytes_max=1 << 16))
    body = ObjectBatch(
        number=1, root=merkle.root([]), count=0, deltas=[], receipts=receipts_of(RECEIPTS_MAX),
        released=[],
    )  # fmt: skip
    assert ledger.application.check_tx(ledger.signed(OPERATOR, body)).code == "too_large"


def test_a_proposal_takes_what_fits_in_order_and_only_what_parses_passes() -> None:
    ledger = Ledger(genesis=with_parameters(block_bytes_max=1 << 16, block_transactions_max=3))
    waiting = [ledger.signed(OPERATOR, Transfer(to=USER.id, amount=1), n) for n in range(5)]
    application = ledger.application
    assert application.prepare_proposal(waiting) == waiting[:3]
    big = [bytes(30_000), bytes(30_000), bytes(30_000)]
    assert application.prepare_proposal(big) == big[:2]
    assert application.process_proposal(waiting[:3])
    assert not application.process_proposal(waiting)
    assert not application.process_proposal(big)
    assert not application.process_proposal([b"nonsense"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chain": "other"}, "wrong_chain"),
        ({"expiry": 0}, "expired"),
        ({"fee": 9}, "fee_too_low"),
        ({"nonce": 1}, "bad_nonce"),
    ],
)
def test_a_wrong_envelope_is_refused_by_name(change: dict[str, Any], code: str) -> None:
    ledger = Ledger(genesis=with_parameters(fee_min=10))
    fields: dict[str, Any] = {"chain": "test", "nonce": 0, "fee": 10, "expiry": 9} | change
    raw = envelope.sign(OPERATOR, Transfer(to=USER.id, amount=1), **fields)
    assert ledger.application.check_tx(raw).code == code
    before = ledger.application.info()
    assert ledger.block([raw])[0].code == code
    assert ledger.balance(OPERATOR) == 10**17
    assert ledger.application.info().app_hash == before.app_hash, "it changed nothing"


def test_fees_go_to_the_treasury_and_strangers_need_an_account() -> None:
    ledger = Ledger(genesis=with_parameters(fee_min=10))
    body = Transfer(to=USER.id, amount=5)
    assert ledger.do(USER, body).code == "unknown_account"
    assert ledger.do(OPERATOR, body).ok
    assert ledger.do(USER, body).code == "insufficient_funds"
    assert ledger.balance(USER) == 5
    assert ledger.unaccounted() == 0


@settings(max_examples=60)
@given(st.sampled_from(sorted(REGISTRY)), st.dictionaries(st.text(max_size=8), st.binary()))
def test_a_body_of_wrong_fields_is_malformed(name: str, fields: dict[str, bytes]) -> None:
    unsigned = {
        "chain": "test", "nonce": 0, "fee": 0, "expiry": 9, "type": name, "body": fields,
        "signer": bytes(USER.id), "signature": bytes(64),
    }  # fmt: skip
    result = Ledger().application.check_tx(dagcbor.encode(unsigned))
    assert result.code in {"malformed", "bad_signature"}
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.convert(fields, REGISTRY[name])
        return
    assert result.code == "malformed"
