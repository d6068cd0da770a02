"""aws-chunked bodies: every framing, every read boundary, every signature."""

import hmac
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.s3.chunked import ChunkedDecoder
from gateway.s3.sigv4 import ChunkSigner

KEY, TIME, SCOPE, SEED = b"k" * 32, "20260921T000000Z", "20260921/r/s3/aws4_request", "5" * 64
EMPTY = sha256(b"").hexdigest()
TRAILER = {"x-amz-checksum-crc32": "AAAAAA=="}


class Signer:
    """Writes signed chunks by the specification, apart from the code under test."""

    def __init__(self) -> None:
        self.previous = SEED

    def chunk(self, data: bytes) -> str:
        parts = ["AWS4-HMAC-SHA256-PAYLOAD", TIME, SCOPE, self.previous, EMPTY]
        return self._sign([*parts, sha256(data).hexdigest()])

    def trailer(self, fields: dict[str, str]) -> str:
        digest = sha256("".join(f"{n}:{v}\n" for n, v in fields.items()).encode()).hexdigest()
        return self._sign(["AWS4-HMAC-SHA256-TRAILER", TIME, SCOPE, self.previous, digest])

    def _sign(self, parts: list[str]) -> str:
        self.previous = hmac.new(KEY, "\n".join(parts).encode(), "sha256").hexdigest()
        return self.previous


def encode(
    chunks: list[bytes], *, signed: bool, trailer: dict[str, str] | None, gap: bytes = b""
) -> bytes:
    signer, body = Signer(), b""
    for data in [*chunks, b""]:
        extension = f";chunk-signature={signer.chunk(data)}" if signed else ""
        body += f"{len(data):x}{extension}\r\n".encode() + data + (b"\r\n" if data else b"")
    for name, value in (trailer or {}).items():
        body += f"{name}:{value}\r\n".encode()
    if signed and trailer is not None:
        body += gap + f"x-amz-trailer-signature:{signer.trailer(trailer)}\r\n".encode()
    return body + b"\r\n"


def decoder(length: int, *, signed: bool, trailer: bool) -> ChunkedDecoder:
    signer = ChunkSigner(hmac.new(KEY, digestmod="sha256"), TIME, SCOPE, SEED) if signed else None
    return ChunkedDecoder(length, signer, trailer=trailer)


def decode(body: bytes, sizes: list[int], machine: ChunkedDecoder) -> bytes:
    out, at = b"", 0
    for size in [*sizes, len(body)]:
        out += b"".join(machine.feed(body[at : at + size]))
        at += size
    machine.finish()
    return out


MODES = [(True, False), (True, True), (False, True)]


@pytest.mark.parametrize(("signed", "trailer"), MODES)
@settings(max_examples=60)
@given(data=st.data())
def test_payload_survives_any_chunks_and_any_read_boundaries(
    signed: bool, trailer: bool, data: st.DataObject
) -> None:
    chunks = data.draw(st.lists(st.binary(min_size=1, max_size=300), max_size=6))
    body = encode(chunks, signed=signed, trailer=TRAILER if trailer else None)
    sizes = data.draw(st.lists(st.integers(1, 200), max_size=40))
    payload = b"".join(chunks)
    machine = decoder(len(payload), signed=signed, trailer=trailer)
    assert decode(body, sizes, machine) == payload
    assert machine.trailers == (TRAILER if trailer else {})


@pytest.mark.parametrize(("signed", "trailer"), MODES)
def test_byte_by_byte(signed: bool, trailer: bool) -> None:
    body = encode([b"abc", b"\r\n0\r\n"], signed=signed, trailer=TRAILER if trailer else None)
    machine = decoder(8, signed=signed, trailer=trailer)
    assert decode(body, [1] * len(body), machine) == b"abc\r\n0\r\n"


@pytest.mark.parametrize("trailer", [None, TRAILER])
def test_no_byte_of_a_signed_body_can_be_changed(trailer: dict[str, str] | None) -> None:
    body = encode([b"abc", b"defg"], signed=True, trailer=trailer)
    passed = []
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with suppress(StoreError):
            decode(changed, [], decoder(7, signed=True, trailer=trailer is not None))
            passed.append(changed[at - 1 : at + 2])
    # Line ends behind the last field carry nothing; no other change gets through.
    assert all(b"\n" in window or b"\r" in window for window in passed)
    assert len(passed) <= 4


@pytest.mark.parametrize("trailer", [None, TRAILER])
def test_the_last_chunk_and_the_trailer_must_be_signed(trailer: dict[str, str] | None) -> None:
    body = encode([b"abc"], signed=True, trailer=trailer)
    cut = body.rindex(b"signature") + len(b"signature=")
    forged = body[:cut] + b"0" * 64 + body[cut + 64 :]
    with pytest.raises(StoreError) as caught:
        decode(forged, [], decoder(3, signed=True, trailer=trailer is not None))
    assert caught.value.code == "SignatureDoesNotMatch"
    unsigned = encode([b"abc"], signed=False, trailer=trailer)
    with pytest.raises(StoreError) as caught:
        decode(unsigned, [], decoder(3, signed=True, trailer=trailer is not None))
    assert caught.value.code == "SignatureDoesNotMatch"


def test_a_signed_trailer_without_its_signature_is_refused() -> None:
    body = encode([b"abc"], signed=True, trailer=TRAILER)
    body = body[: body.index(b"x-amz-trailer-signature")] + b"\r\n"
    with pytest.raises(StoreError) as caught:
        decode(body, [], decoder(3, signed=True, trailer=True))
    assert caught.value.code == "SignatureDoesNotMatch"


def test_the_empty_line_of_awss_own_example_is_understood() -> None:
    body = encode([b"abc"], signed=True, trailer=TRAILER, gap=b"\r\n")
    assert decode(body, [], decoder(3, signed=True, trailer=True)) == b"abc"


@pytest.mark.parametrize(("length", "expected"), [(2, "IncompleteBody"), (4, "IncompleteBody")])
def test_the_decoded_length_is_enforced(length: int, expected: str) -> None:
    body = encode([b"abc"], signed=False, trailer=TRAILER)
    with pytest.raises(StoreError) as caught:
        decode(body, [], decoder(length, signed=False, trailer=True))
    assert caught.value.code == expected


def test_a_body_cut_anywhere_before_its_last_line_is_incomplete() -> None:
    body = encode([b"abc", b"d"], signed=True, trailer=TRAILER)
    for end in range(len(body) - len("\r\n\r\n")):
        with pytest.raises(StoreError):
            decode(body[:end], [], decoder(4, signed=True, trailer=True))


@pytest.mark.parametrize("body", [b"5\nabc", b"-1\r\n", b"+1\r\na\r\n", b"0x1\r\na\r\n", b"\r\n",
    b"1" * 17 + b"\r\n", b"1\r\nab\r\n", b" 1\r\na\r\n", b"1_0\r\n", b"a" * 500,
    b"0\r\n" + b"a:b\r\n" * 2000, b"0\r\n\r\nmore", b"0\r\nnocolon\r\n\r\n"])  # fmt: skip
def test_broken_framing_is_refused(body: bytes) -> None:
    with pytest.raises(StoreError) as caught:
        decode(body, [], decoder(10, signed=False, trailer=True))
    assert caught.value.status == 400


@settings(max_examples=100)
@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_random_bytes_only_ever_raise_store_errors(raw: bytes, signed: bool, trailer: bool) -> None:
    machine = decoder(100, signed=signed, trailer=trailer)
    with suppress(StoreError):
        assert len(decode(raw, [7] * 20, machine)) <= 100
