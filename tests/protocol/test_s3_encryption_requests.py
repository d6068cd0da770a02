"""Encryption headers and documents as strangers send them; forms; plain HTTP."""

import base64
import hashlib
from contextlib import suppress
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.model import SSE_C, SSE_S3
from gateway.s3.bucket_encryption import (
    BucketEncryption,
    encryption_document,
    parse_encryption,
)
from gateway.s3.config import S3Config
from gateway.s3.encryption import HEADERS, asked_encryption, customer_key
from gateway.s3.object_encryption import parse_object_encryption
from tests.protocol.s3_asgi import make_app, signed_call
from tests.protocol.test_s3_forms import OPEN, post, signed, with_bucket

SSE = "x-amz-server-side-encryption"
KEY = bytes(range(32))
CLIENTS = {
    f"{SSE}-customer-algorithm": "AES256",
    f"{SSE}-customer-key": base64.b64encode(KEY).decode(),
    f"{SSE}-customer-key-md5": base64.b64encode(hashlib.md5(KEY).digest()).decode(),
}
LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
WORDS = st.sampled_from(
    ["AES256", "aws:kms", "aws:kms:dsse", "", "true", "null", "e30=", *CLIENTS.values()]
)


@given(st.dictionaries(st.sampled_from(sorted(HEADERS)), LATIN | WORDS))
@example({f"{SSE}-context": base64.b64encode(b"[" * 3000).decode(), SSE: "aws:kms"})
def test_any_headers_are_a_request_for_encryption_or_refused(headers: dict[str, str]) -> None:
    with suppress(StoreError):
        found = asked_encryption(headers)
        assert (found is None) is (SSE not in headers)
        assert found is None or found.algorithm == headers[SSE]
    with suppress(StoreError):
        key = customer_key(headers)
        given = {name: value for name, value in headers.items() if name in CLIENTS}
        assert (key is None) is (not given)
        if key is not None:
            assert key.md5 == given[f"{SSE}-customer-key-md5"]


@given(st.binary(max_size=70).filter(lambda key: len(key) != 32))
def test_only_keys_of_32_bytes_are_keys(secret: bytes) -> None:
    digest = base64.b64encode(hashlib.md5(secret).digest()).decode()
    text = base64.b64encode(secret).decode()
    headers = CLIENTS | {
        f"{SSE}-customer-key": text, f"{SSE}-customer-key-md5": digest
    }  # fmt: skip
    with pytest.raises(StoreError, match="invalid for the specified algorithm") as refused:
        customer_key(headers)
    assert not text or text not in str(refused.value.details)


@given(st.binary(max_size=400))
def test_any_document_is_an_encryption_or_refused(data: bytes) -> None:
    for parse in (parse_encryption, parse_object_encryption):
        with suppress(StoreError):
            parse(data)


@given(
    st.sampled_from(["AES256", "aws:kms", "aws:kms:dsse", ""]),
    st.text(
        st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["C", "Z"]),
        max_size=40,
    ),
    st.booleans(),
    st.lists(st.sampled_from(["NONE", SSE_C]), max_size=2).map(tuple),
)
def test_a_default_survives_its_document(
    algorithm: str, key: str, bucket_key: bool, blocked: tuple[str, ...]
) -> None:
    key = key if algorithm.startswith("aws") else ""
    kept = BucketEncryption(algorithm, key, bucket_key, blocked)
    document = encryption_document(kept)
    fromstring(document)
    if algorithm or blocked:
        assert parse_encryption(document) == kept
    else:
        with pytest.raises(StoreError):
            parse_encryption(document)


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("", "MalformedXML"),
        ("<Rule/>", "MalformedXML"),
        ("<Rule><X/></Rule><Rule><X/></Rule>", "MalformedXML"),
        ("<Rule><D><SSEAlgorithm>rot13</SSEAlgorithm></D></Rule>", "MalformedXML"),
        ("<Rule><D></D></Rule>", "MalformedXML"),
        ("<Rule><D><SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID></D>"
         "</Rule>", "InvalidArgument"),
        ("<Rule><D><SSEAlgorithm>AES256</SSEAlgorithm></D><BucketKeyEnabled>x</BucketKeyEnabled>"
         "</Rule>", "MalformedXML"),
        ("<Rule><BlockedEncryptionTypes><EncryptionType>ALL</EncryptionType>"
         "</BlockedEncryptionTypes></Rule>", "MalformedXML"),
    ],
)  # fmt: skip
def test_what_is_no_default_is_refused(rules: str, code: str) -> None:
    inner = rules.replace("<D>", "<ApplyServerSideEncryptionByDefault>").replace(
        "</D>", "</ApplyServerSideEncryptionByDefault>"
    )
    document = f"<ServerSideEncryptionConfiguration>{inner}</ServerSideEncryptionConfiguration>"
    with pytest.raises(StoreError) as refused:
        parse_encryption(document.encode())
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("fields", "read", "said"),
    [
        (CLIENTS, CLIENTS, {name: CLIENTS[name] for name in CLIENTS if name[-4:] != "-key"}),
        ({SSE: "AES256"}, {}, {SSE: "AES256"}),
        ({SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "team"}, {},
         {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "team"}),
    ],
)  # fmt: skip
async def test_a_form_asks_for_encryption(
    fields: dict[str, str], read: dict[str, str], said: dict[str, str]
) -> None:
    app = await with_bucket()
    conditions = [*OPEN, *({name: value} for name, value in fields.items())]
    done = await post(app, signed(conditions, {"key": "k"} | fields))
    assert done.status == 204, done.body
    got = await signed_call(app, "GET", "/bucket/k", read)
    assert (got.status, got.body) == (200, b"file's bytes")
    for answer in (done, got):
        assert said.items() <= answer.headers.items()


@pytest.mark.parametrize("headers", [CLIENTS, {SSE: "aws:kms"}])
async def test_plain_http_is_refused_where_it_is_to_be(headers: dict[str, str]) -> None:
    app = await make_app(config=S3Config(sse_requires_tls=True))
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    for method, target in (("PUT", "/bucket/k"), ("POST", "/bucket/k?uploads")):
        refused = await signed_call(app, method, target, headers, b"body" * (method == "PUT"))
        assert (refused.status, refused.code) == (400, "InvalidArgument")
        assert b"secure connection" in refused.body
    assert (await signed_call(app, "PUT", "/bucket/k", {SSE: SSE_S3}, b"body")).status == 200


async def test_no_reply_tells_a_client_s_key_back() -> None:
    app = await make_app()
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    answers: list[Any] = []
    wrong = {f"{SSE}-customer-key-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    for more in ({}, wrong, {SSE: "AES256"}, {f"{SSE}-customer-algorithm": "AES192"}):
        answers += [await signed_call(app, "PUT", "/bucket/k", CLIENTS | more, b"body")]
    answers += [await signed_call(app, "GET", "/bucket/k", CLIENTS | more) for more in ({}, wrong)]
    assert {answer.status for answer in answers} == {200, 400}
    for answer in answers:
        assert CLIENTS[f"{SSE}-customer-key"] not in f"{answer.headers} {answer.body!r}"
