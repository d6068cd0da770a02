"""Sealed sessions: they come back whole, in one spelling, under their own key."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.iam.tokens import BrokenToken, Session, seal, unseal

KEY, ENTROPY = b"k" * 32, random.Random(9).randbytes
SESSION = Session(
    "ASIA1", "secret", "zoe", "role", "reader", "AROA1", "session", 100, 200,
    b'{"Statement": 1}', ("arn:aws:iam::aws:policy/X",), {"team": "blue"},
)  # fmt: skip


def test_a_session_comes_back_whole_under_its_own_key() -> None:
    token = seal(SESSION, KEY, ENTROPY)
    assert unseal(token, KEY) == SESSION
    assert seal(SESSION, KEY, ENTROPY) != token
    with pytest.raises(BrokenToken):
        unseal(token, b"l" * 32)
    assert "secret" not in repr(SESSION)
    assert "secret" not in token


def test_no_other_spelling_of_a_token_is_one() -> None:
    chance = random.Random(2)
    for length in range(6):  # (so that the last character has bits of no byte)
        token = seal(
            Session("a", "s", "z", "role", "r", "i", "n", 1, 2, b"x" * length), KEY, ENTROPY
        )
        others = [token[:-1], token + "A", token + "=", token + "\n", f" {token}", token[4:]]
        for at in (
            *range(len(token) - 4, len(token)),
            *(chance.randrange(len(token)) for _ in "abc"),
        ):
            others += [
                token[:at] + letter + token[at + 1 :]
                for letter in string.ascii_letters + "+/-_.= "
                if letter != token[at]
            ]
        for other in others:
            with pytest.raises(BrokenToken):
                unseal(other, KEY)


@given(st.text(max_size=200) | st.binary(max_size=200).map(bytes.hex))
def test_garbage_is_no_token(text: str) -> None:
    with pytest.raises(BrokenToken):
        unseal(text, KEY)
    with pytest.raises(BrokenToken):
        unseal(text * 5000, KEY) if text else unseal("", KEY)
