"""Drivers of notifications: the webhook against a real listener, and the fake that tests use."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.events.message import Message
from gateway.events.places import Webhook
from gateway.events.target import TargetRefused, TargetUnavailable
from gateway.events.webhook import WebhookTarget
from tests.conformance.target_suite import TargetSuite, message, sequences


class FakeTarget:
    """A target in memory, and its own other side."""

    batch = 3

    def __init__(self) -> None:
        self._taken: list[dict[str, Any]] = []
        self._how = ""

    def documents(self) -> list[dict[str, Any]]:
        return self._taken

    def spoil(self, how: str) -> None:
        self._how = how

    async def deliver(self, messages: Sequence[Message]) -> None:
        if self._how == "refuse":
            raise TargetRefused("refused")
        if self._how:
            raise TargetUnavailable(self._how)
        self._taken += [json.loads(each.document) for each in messages]

    async def close(self) -> None:
        pass


class TestFakeTarget(TargetSuite):
    @pytest.fixture
    def target(self) -> FakeTarget:
        return FakeTarget()

    @pytest.fixture
    def sink(self, target: FakeTarget) -> FakeTarget:
        return target


class Listener:
    """A small HTTP server that keeps what is posted to it."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self._how = ""
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> "Listener":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def documents(self) -> list[dict[str, Any]]:
        return self.taken

    def spoil(self, how: str) -> None:
        self._how = how

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._how == "down":
                return
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
            if self._how == "silent":
                await reader.read()  # until the other side leaves
                return
            if not self._how:
                self.taken.append(json.loads(body))
            status = {"busy": "503 Later", "refuse": "422 No", "redirect": "302 There"}
            answer = status.get(self._how, "204 Taken")
            line = f"HTTP/1.1 {answer}\r\nLocation: http://127.0.0.1:1/\r\n\r\n"
            writer.write(b"\x00" * 99_999 if self._how == "garbage" else line.encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class TestWebhookTarget(TargetSuite):
    @pytest.fixture
    async def sink(self) -> AsyncIterator[Listener]:
        listener = await Listener().start()
        yield listener
        await listener.stop()

    @pytest.fixture(params=[1, 10])
    def target(self, sink: Listener, request: pytest.FixtureRequest) -> WebhookTarget:
        url = f"http://127.0.0.1:{sink.port}/events?from=here"
        return WebhookTarget(Webhook(url, token="sesame", batch=request.param), seconds=0.3)

    async def test_the_request_is_what_a_listener_expects(
        self, target: WebhookTarget, sink: Listener
    ) -> None:
        await target.deliver([message(7)])
        lines = sink.heads[0].lower().split("\r\n")
        assert lines[0] == "post /events?from=here http/1.1"
        assert f"host: 127.0.0.1:{sink.port}" in lines
        assert "authorization: bearer sesame" in lines
        assert "content-type: application/json" in lines
        document = sink.documents()[0]
        # The two that listeners made for MinIO read.
        assert (document["EventName"], document["Key"]) == ("s3:ObjectCreated:Put", "b/k")

    async def test_a_redirect_is_not_followed(self, target: WebhookTarget, sink: Listener) -> None:
        sink.spoil("redirect")
        with pytest.raises(TargetUnavailable, match="302"):
            await target.deliver([message(1)])
        assert len(sink.heads) == 1

    async def test_a_whole_scheme_is_sent_as_it_is(self, sink: Listener) -> None:
        url = f"http://127.0.0.1:{sink.port}"
        await WebhookTarget(Webhook(url, token="Basic abc")).deliver([message(1)])
        assert "Authorization: Basic abc\r\n" in sink.heads[0]
        assert sink.heads[0].startswith("POST / HTTP/1.1\r\n")

    async def test_records_of_a_batch_share_a_document(self, sink: Listener) -> None:
        target = WebhookTarget(Webhook(f"http://127.0.0.1:{sink.port}/", batch=10))
        await target.deliver([message(n, f"k{n}") for n in range(10)])
        assert len(sink.documents()) == 1
        assert sequences(sink.documents()) == list(range(10))
