"""Rows of versions: what is left out of them comes back, and older rows are read."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records import (
    FORMAT,
    CorruptRecord,
    ListedRow,
    StoredChecksum,
    StreamRef,
    VersionRow,
    decode,
    decode_listed,
    decode_version,
    encode,
    ordered_id,
    pack_etag,
)

UID, MD5 = b"u" * 16, "0123456789abcdef" * 2


def stream(name: bytes, size: int = 4096) -> StreamRef:
    return StreamRef(name, size, b"k" * 40, b"c" * 32, True)


def version(*streams: StreamRef, etag: str = MD5) -> VersionRow:
    return VersionRow(
        version="null",
        sequence=1_764_000_000_000_000_001,
        size=4096,
        stored_etag=pack_etag(etag),
        modified_ns=1_764_000_000_000_000_000,
        profile="small",
        checksum=StoredChecksum("SHA256", b"d" * 32, 0),
        uid=UID,
        cid=None,
        fid=b"f" * 36,
        content_type="image/jpeg",
        headers={},
        metadata={},
        generation=1,
        key=b"w" * 40,
        lease=b"l" * 32,
        charged=4196,
        complete=True,
        upload=b"",
        streams=streams,
        parts=(),
    )


@pytest.mark.parametrize(
    "streams", [[UID], [b"s" * 16], [UID, b"s" * 16], []], ids=["own", "shared", "two", "none"]
)
@pytest.mark.parametrize("etag", [MD5, MD5.upper(), MD5 + "-2", "crc64nvme", ""])
def test_a_version_comes_back_as_it_was(streams: list[bytes], etag: str) -> None:
    row = version(*(stream(name) for name in streams), etag=etag)
    for found in (decode(VersionRow, encode(row)), decode_version(encode(row))):
        assert found == row
        assert found.etag == etag
    assert decode_listed(encode(row)) == decode(ListedRow, encode(row))
    assert decode_listed(encode(row)).etag == etag


def test_a_small_version_says_neither_its_md5_in_hex_nor_its_name_twice() -> None:
    raw = encode(version(stream(UID)))
    assert MD5.encode() not in raw
    assert raw.count(UID) == 1
    assert len(raw) <= 350


def test_a_version_of_the_first_format_is_read() -> None:
    row = msgspec.structs.replace(version(stream(UID)), stored_etag=MD5)
    raw = FORMAT + msgspec.msgpack.encode(row)
    assert MD5.encode() in raw
    assert decode(VersionRow, raw) == row
    assert decode_listed(raw).etag == decode(VersionRow, raw).etag == MD5


def test_a_format_or_an_etag_that_is_not_known_is_refused() -> None:
    raw = encode(version(stream(UID)))
    for read in (decode_version, decode_listed):
        with pytest.raises(CorruptRecord):
            read(b"\x03" + raw[1:])
    strange = msgspec.structs.replace(version(), stored_etag=5)
    with pytest.raises(CorruptRecord):
        _ = decode(VersionRow, encode(strange)).etag


@given(st.lists(st.integers(0, (1 << 63) - 1), min_size=2, max_size=2))
def test_ids_are_in_order_of_time(times: list[int]) -> None:
    early, late = sorted(times)
    first, second = ordered_id(early, lambda n: b"\xff" * n), ordered_id(late, bytes)
    assert len(first) == len(second) == 16
    assert first[:6] <= second[:6]
    assert first < second or early >> 16 == late >> 16
