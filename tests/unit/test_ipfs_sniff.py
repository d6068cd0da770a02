"""Claims about what the gateway makes of a file's first bytes (gateway/ipfs/web/sniff.py)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ipfs.web.sniff import BYTES, media_type

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    value=st.lists(_json) | st.dictionaries(st.text(), _json),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 2]),
)
def test_json_is_known_by_its_beginning(
    value: object, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    assert media_type(text) == "application/json"
    longer = json.dumps(
        [value] * (BYTES // len(text) + 1), ensure_ascii=ascii_only, indent=indent
    ).encode("utf-8", "replace")
    assert media_type(longer) == "application/json"


@pytest.mark.parametrize(
    "text",
    [
        b"[draft] not yet",
        b"{not: json}",
        b"[1,2",
        b"[]x",
        b"[a link](to)" + b" " * BYTES,
        b"{% for page in pages %}" * 50,
        b"[section]\nkey=value\n" * 50,
        b"1" * BYTES,
        b'"' + b"x" * BYTES,
        b"",
    ],
)
def test_other_text_is_text(text: bytes) -> None:
    assert media_type(text) == "text/plain"


@given(start=st.binary(max_size=2 * BYTES))
def test_any_bytes_have_a_type(start: bytes) -> None:
    assert "/" in media_type(b"[" + start)
