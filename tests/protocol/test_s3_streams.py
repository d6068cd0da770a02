"""Bodies in motion: signed chunks through the whole application, large replies, clients that go."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import pytest

from chain.net.transport import Buffer
from gateway.s3.app import WATCHED_BYTES, S3App
from gateway.s3.reading import BUFFER_MIN, coalesce
from tests.conformance.s3_server import ALICE, CREDENTIALS, fresh_store
from tests.protocol.s3_asgi import FixedClock, call, make_app, scope_of, sign, signed_call

EMPTY = sha256(b"").hexdigest()


# ------------------------------------------------------------------ signed chunks
def streaming_body(headers: dict[str, str], chunks: list[bytes]) -> bytes:
    """The body for a signed STREAMING-AWS4-HMAC-SHA256-PAYLOAD request, by the specification."""
    scope = headers["authorization"].partition("Credential=")[2].partition(",")[0]
    date, region, service = scope.split("/")[-4:-1]
    key = ("AWS4" + ALICE.secret_key).encode()
    for step in (date, region, service, "aws4_request"):
        key = hmac.new(key, step.encode(), "sha256").digest()
    previous = headers["authorization"].partition("Signature=")[2]
    body = b""
    for data in [*chunks, b""]:
        text = "\n".join([
            "AWS4-HMAC-SHA256-PAYLOAD", headers["x-amz-date"],
            f"{date}/{region}/{service}/aws4_request", previous, EMPTY, sha256(data).hexdigest(),
        ])  # fmt: skip
        previous = hmac.new(key, text.encode(), "sha256").hexdigest()
        body += f"{len(data):x};chunk-signature={previous}\r\n".encode() + data + b"\r\n"
    return body


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_signed_chunks_are_stored_without_their_framing(step: int) -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    given = {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": "300",
        "content-encoding": "aws-chunked",
    }
    target, headers = sign("PUT", "/bucket/key", given)
    body = streaming_body(headers, [b"a" * 200, b"b" * 100])
    headers["content-length"] = str(len(body))
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    assert (await call(app, "PUT", target, headers, pieces)).status == 200
    got = await signed_call(app, "GET", "/bucket/key")
    assert got.body == b"a" * 200 + b"b" * 100
    assert "content-encoding" not in got.headers
    at = body.index(b"b" * 100)
    forged = body[:at] + b"c" + body[at + 1 :]
    refused = await call(app, "PUT", target.replace("key", "key"), headers, [forged])
    assert (refused.status, refused.code) == (403, "SignatureDoesNotMatch")
    assert (await signed_call(app, "GET", "/bucket/key")).body == got.body


async def test_chunks_cannot_claim_signatures_that_the_request_has_not() -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    given = {"x-amz-decoded-content-length": "0",
             "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}  # fmt: skip
    target, headers = sign("PUT", "/bucket/key", given, scheme="v2")
    refused = await call(app, "PUT", target, headers, [b"0\r\n\r\n"])
    assert (refused.status, refused.code) == (400, "InvalidRequest")


# ------------------------------------------------------------------ replies
async def test_small_buffers_are_joined_and_large_ones_pass_untouched() -> None:
    large = bytes(BUFFER_MIN)

    async def source() -> AsyncIterator[Buffer]:
        yield large
        for _ in range(30):
            yield bytes(10_000)

    pieces = [piece async for piece in coalesce(source())]
    assert pieces[0] is large
    assert all(len(piece) >= BUFFER_MIN for piece in pieces[:-1])
    assert sum(len(piece) for piece in pieces) == BUFFER_MIN + 300_000


class Endless:
    """An object service whose reads go on for ever, or fail half way."""

    def __init__(self, store: Any, fail_at: int | None = None) -> None:
        self._store = store
        self._fail_at = fail_at
        self.given = 0
        self.closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def read(self, *_: Any) -> AsyncIterator[Buffer]:
        try:
            while True:
                if self._fail_at is not None and self.given >= self._fail_at:
                    raise OSError("the disk is gone")
                self.given += BUFFER_MIN
                yield bytes(BUFFER_MIN)
        finally:
            self.closed = True


async def prepared(fail_at: int | None = None) -> tuple[S3App, Endless]:
    store = await fresh_store()
    app = S3App(store, CREDENTIALS.get, clock=FixedClock())
    await signed_call(app, "PUT", "/bucket")
    await signed_call(app, "PUT", "/bucket/key", {}, bytes(2 * WATCHED_BYTES))
    endless = Endless(store, fail_at)
    return S3App(endless, CREDENTIALS.get, clock=FixedClock()), endless  # type: ignore[arg-type]


async def test_a_client_that_goes_stops_the_reading() -> None:
    app, endless = await prepared()
    target, headers = sign("GET", "/bucket/key")
    gone = asyncio.Event()
    sent = 0

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        if sent >= 2 * BUFFER_MIN:
            gone.set()
        await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await app(scope_of("GET", target, headers), receive, send)
    assert endless.closed
    assert sent < 10 * BUFFER_MIN


async def test_a_failure_half_way_leaves_the_reply_unfinished_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, endless = await prepared(fail_at=3 * BUFFER_MIN)
    answer = await signed_call(app, "GET", "/bucket/key")
    assert answer.status == 200
    assert not answer.finished
    assert endless.closed
    assert answer.headers["x-amz-request-id"] in caplog.text


async def test_a_failure_before_the_first_byte_is_a_clean_error() -> None:
    app, _ = await prepared(fail_at=0)
    answer = await signed_call(app, "GET", "/bucket/key")
    assert (answer.status, answer.code, answer.finished) == (500, "InternalError", True)


# ------------------------------------------------------------------ uploads in progress
async def test_uploads_are_paged_by_key_and_id_and_rolled_up() -> None:
    app = await make_app()
    await signed_call(app, "PUT", "/bucket")
    for key in ("a/1", "a/2", "b", "b", "c/1"):
        assert (await signed_call(app, "POST", f"/bucket/{key}?uploads")).status == 200

    async def pages(query: str) -> list[str]:
        seen, markers = [], ""
        for _ in range(20):
            text = (await signed_call(app, "GET", f"/bucket?uploads{query}{markers}")).body.decode()
            seen += [part.partition("<")[0] for part in text.split("<Upload><Key>")[1:]]
            seen += [part.partition("<")[0] for part in text.split("<CommonPrefixes><Prefix>")[1:]]
            if "<IsTruncated>false" in text:
                return seen
            key = text.partition("<NextKeyMarker>")[2].partition("<")[0]
            upload = text.partition("<NextUploadIdMarker>")[2].partition("<")[0]
            markers = f"&key-marker={quote(key, safe='')}&upload-id-marker={upload}"
        raise AssertionError("the pages never end")

    assert await pages("&max-uploads=1") == ["a/1", "a/2", "b", "b", "c/1"]
    assert await pages("&max-uploads=2&prefix=b") == ["b", "b"]
    assert await pages("&max-uploads=1&delimiter=%2F") == ["a/", "b", "b", "c/"]
    assert await pages("&delimiter=%2F") == ["b", "b", "a/", "c/"]
