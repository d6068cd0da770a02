"""JSON Web Tokens: the RFC's examples, what is refused, and garbage."""

import json
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from chain.clock import Clock
from gateway.iam.issuers import (
    AGAIN_SECONDS,
    KEPT_SECONDS,
    REST_SECONDS,
    FetchFailed,
    Issuers,
    keys_url,
)
from gateway.iam.jwt import BadToken, ExpiredToken, Key, parse_keys, parse_token, verify
from tests.conformance.oidc_issuer import base64url, jwk, signed
from tests.unit.object_parts import FakeClock

NOW = 1_790_000_000
# RFC 7515, appendix A.2 and A.3: the same claims, good until 1300819380.
CLAIMS = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
RFC_RSA = (
    f"eyJhbGciOiJSUzI1NiJ9.{CLAIMS}."
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5"
    "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb"
    "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO"
    "YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
RFC_RSA_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt"
    "0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5"
    "z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aG"
    "hyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
RFC_EC = (
    f"eyJhbGciOiJFUzI1NiJ9.{CLAIMS}."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC_EC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def key_set(*keys: dict[str, str]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


KEYS = parse_keys(key_set(jwk("rsa", RSA), jwk("ec", EC)))


def claims(**more: Any) -> dict[str, Any]:
    return {"iss": "https://i.example", "exp": NOW + 60} | more


@pytest.mark.parametrize(("text", "key"), [(RFC_RSA, RFC_RSA_KEY), (RFC_EC, RFC_EC_KEY)])
def test_the_rfcs_examples_are_good_until_their_time(text: str, key: dict[str, str]) -> None:
    token, keys = parse_token(text), parse_keys(key_set(key))
    verify(token, keys, 1300819379.0)
    with pytest.raises(ExpiredToken):
        verify(token, keys, 1300819380.0)
    assert token.issuer == "joe"
    changed = text[:-4] + ("AAAA" if text[-4:] != "AAAA" else "BBBB")
    with pytest.raises(BadToken):
        verify(parse_token(changed), keys, 1300819379.0)


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
def test_only_the_key_that_it_names_counts(key: Any) -> None:
    name = "rsa" if key is RSA else "ec"
    verify(parse_token(signed(claims(), key, kid=name)), KEYS, NOW)
    verify(parse_token(signed(claims(), key)), KEYS, NOW)
    for header in ({"kid": "other"}, {"kid": "ec" if name == "rsa" else "rsa"}):
        with pytest.raises(BadToken):
            verify(parse_token(signed(claims(), key, **header)), KEYS, NOW)
    other = rsa.generate_private_key(65537, 2048) if key is RSA else ec.generate_private_key(
        ec.SECP256R1()
    )  # fmt: skip
    with pytest.raises(BadToken):
        verify(parse_token(signed(claims(), other, kid=name)), KEYS, NOW)


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS512", "PS256", "ES384", 1, None])
def test_a_token_does_not_choose_how_it_is_checked(algorithm: Any) -> None:
    with pytest.raises(BadToken):
        parse_token(signed(claims(), RSA, alg=algorithm))
    unsigned = ".".join(
        [base64url(b'{"alg":"none"}'), base64url(json.dumps(claims()).encode()), ""]
    )
    with pytest.raises(BadToken):
        parse_token(unsigned)


def test_an_rsa_signature_is_none_of_the_curve_and_the_reverse() -> None:
    for text in (signed(claims(), RSA, alg="ES256"), signed(claims(), EC, alg="RS256")):
        with pytest.raises(BadToken):
            verify(parse_token(text), KEYS, NOW)


@pytest.mark.parametrize(
    "given",
    [{"exp": None}, {"exp": "1"}, {"exp": True}, {"exp": -1}, {"exp": 1e300}, {"nbf": NOW + 61},
     {"iat": NOW + 61}, {"nbf": "soon"}],
    ids=str,
)  # fmt: skip
def test_times_are_times_and_have_come(given: dict[str, Any]) -> None:
    with pytest.raises(BadToken):
        verify(parse_token(signed(claims(**given), RSA)), KEYS, NOW)
    verify(parse_token(signed(claims(nbf=NOW + 59, iat=NOW), RSA)), KEYS, NOW)


def test_weak_foreign_and_broken_keys_are_passed_over() -> None:
    weak = jwk("weak", rsa.generate_private_key(65537, 1024))
    good = jwk("good", EC)
    others = [weak, {"kty": "oct", "k": "AAAA"}, good | {"crv": "P-384"}, good | {"x": "AAAA"},
              good | {"y": "!"}, jwk("e", RSA) | {"use": "enc"}, jwk("e", RSA) | {"e": "Ag"},
              {"kty": "RSA"}, {}]  # fmt: skip
    assert [key.id for key in parse_keys(key_set(*others, good))] == ["good"]
    for document in (b"", b"[]", b"{}", b'{"keys": 1}', key_set(*[good] * 65), b"[" * 100_000):
        with pytest.raises(BadToken):
            parse_keys(document)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_no_token_and_no_keys(data: bytes) -> None:
    text = data.decode("latin-1")
    for one in (text, f"{text}.{text}.{text}", f"{base64url(data)}.{base64url(data)}.A"):
        with pytest.raises(BadToken):
            parse_token(one)
    try:
        parse_keys(data)
    except BadToken:
        return
    raise AssertionError("garbage was a key set")


def test_no_changed_character_of_a_token_is_accepted() -> None:
    text, chance = signed(claims(), EC, kid="ec"), random.Random(7)
    for _ in range(300):
        at = chance.randrange(len(text))
        changed = text[:at] + chance.choice("ABCxyz019-_.") + text[at + 1 :]
        if changed != text:
            with pytest.raises(BadToken):
                verify(parse_token(changed), KEYS, NOW)


# ------------------------------------------------------------------ issuers
ISSUER = "https://i.example/realm"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"


class Web:
    """Documents by URL."""

    def __init__(self) -> None:
        self.documents = {
            DISCOVERY: json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}).encode(),
            f"{ISSUER}/keys": key_set(jwk("rsa", RSA)),
        }
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if url not in self.documents:
            raise FetchFailed("404")
        return self.documents[url]


def issuers(web: Web, clock: Clock) -> Issuers:
    return Issuers(web.fetch, clock)


async def test_keys_are_kept_for_an_hour_and_a_new_one_is_found_after_a_minute() -> None:
    web, clock = Web(), FakeClock()
    known = issuers(web, clock)

    async def ids(wanted: str) -> set[str]:
        return {key.id for key in await known.keys(ISSUER, wanted)}

    assert await ids("rsa") == {"rsa"}
    web.documents[f"{ISSUER}/keys"] = key_set(jwk("ec", EC))
    await clock.sleep(AGAIN_SECONDS - 1)
    assert await ids("ec") == {"rsa"}
    assert len(web.asked) == 2
    await clock.sleep(1)
    assert await ids("ec") == {"ec"}
    await clock.sleep(KEPT_SECONDS - 1)
    assert await ids("ec") == {"ec"}
    assert len(web.asked) == 4
    await clock.sleep(1)
    assert await ids("ec") == {"ec"}
    assert len(web.asked) == 6


async def test_an_issuer_that_fails_is_left_alone_for_a_while() -> None:
    web, clock = Web(), FakeClock()
    known = issuers(web, clock)
    keys = web.documents.pop(f"{ISSUER}/keys")
    for _ in range(3):
        with pytest.raises(FetchFailed):
            await known.keys(ISSUER, "rsa")
    assert len(web.asked) == 2
    web.documents[f"{ISSUER}/keys"] = keys
    await clock.sleep(REST_SECONDS)
    found: list[Key] = await known.keys(ISSUER, "rsa")
    assert [key.id for key in found] == ["rsa"]


@pytest.mark.parametrize(
    "configuration",
    [
        "", "[]", {}, {"issuer": ISSUER}, {"issuer": ISSUER, "jwks_uri": 1},
        {"issuer": "https://other.example", "jwks_uri": f"{ISSUER}/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://169.254.169.254/latest"},
        {"issuer": ISSUER, "jwks_uri": "http://i.example/realm/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)  # fmt: skip
def test_keys_come_from_the_issuer_or_over_https(configuration: Any) -> None:
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    with pytest.raises(BadToken):
        keys_url(ISSUER, text.encode())
    elsewhere = {"issuer": f"{ISSUER}/", "jwks_uri": "https://keys.example/certs"}
    assert keys_url(ISSUER, json.dumps(elsewhere).encode()) == "https://keys.example/certs"
