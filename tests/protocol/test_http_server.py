"""The HTTP server, spoken to in raw bytes, over plain TCP and TLS."""

import asyncio
import contextlib
import dataclasses
import re
import ssl
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.net.http import HttpLimits, reload_certificate
from tests.protocol.http_site import (
    FAST,
    Certificate,
    Running,
    head,
    running_site,
)


# ---------------------------------------------------------------------- replies
async def test_a_connection_is_used_again(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        for body in (b"", b"one", b"x" * 300_000):
            request = head("PUT", "/b/k", f"content-length: {len(body)}") + body
            status, lines, echoed = await client.ask(request)
            assert (status, echoed) == (200, body)
            assert re.search(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", lines)
            assert b"connection: close" not in lines
        await client.close()


async def test_a_reply_without_a_length_is_chunked_and_closes_for_http_1_0(plain: Running) -> None:
    async with plain() as site:
        reply = await site.exchange(head("GET", "/stream", "connection: close"))
        assert b"transfer-encoding: chunked\r\n" in reply
        assert reply.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n")
        reply = await site.exchange(b"GET /stream HTTP/1.0\r\n\r\n")
        assert b"chunked" not in reply
        assert reply.endswith(b"\r\n\r\nabcabcabc")


async def test_head_has_the_length_and_no_body(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        client.writer.write(head("HEAD", "/refuse") + head("HEAD", "/stream") + head("GET", "/x"))
        first = await client.reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 403")
        assert b"content-length: 2\r\n" in first
        second = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length" not in second
        assert b"chunked" not in second
        assert (await client.reply())[0] == 200
        await client.close()


async def test_a_crashing_application_gives_a_500_that_tells_nothing(plain: Running) -> None:
    async with plain() as site:
        reply = await site.exchange(head("GET", "/crash"))
        assert reply.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in reply
        reply = await site.exchange(head("GET", "/inject"))
        assert reply.startswith(b"HTTP/1.1 500 ")
        assert b"evil" not in reply


async def test_an_incomplete_reply_is_cut_off_not_ended(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/short"))
        await client.reader.readuntil(b"\r\n\r\n123")
        assert await client.rest() == b""  # seven bytes short of the announced length
        await client.close()


async def test_errors_of_the_protocol_take_the_given_form(running: Running) -> None:
    def as_xml(status: int, code: str, message: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return [(b"content-type", b"application/xml"), (b"x-status", b"%d" % status)], xml.encode()

    async with running(error_body=as_xml) as site:
        reply = await site.exchange(b"NOT HTTP\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/xml\r\n")
        assert b"<Code>BadRequest</Code>" in reply
        assert b"connection: close\r\n" in reply


# ---------------------------------------------------------------------- the request's head
@pytest.mark.parametrize(
    "target",
    [
        "//b//k",
        "/b/../k",
        "/b/%2F%2e%2E/k",
        "/b/a+b%20c",
        "/b/k?list-type=2&x=%2B+",
        "/b/'()!*",
    ],
)
async def test_the_target_arrives_as_it_was_sent(plain: Running, target: str) -> None:
    async with plain() as site:
        await site.exchange(head("GET", target, "connection: close"))
        scope = site.scopes[0]
        path, _, query = target.partition("?")
        assert scope["raw_path"] == path.encode()
        assert scope["query_string"] == query.encode()
        await site.exchange(head("GET", f"http://h:1{target}", "connection: close"))
        assert site.scopes[1]["raw_path"] == path.encode()
        # Of a whole URL the host counts, whatever the Host header says (RFC 9112 section 3.2.2).
        assert [v for n, v in site.scopes[1]["headers"] if n == b"host"] == [b"h:1"]


async def test_a_tunnel_ends_here_once_and_only_where_it_may(plain: Running) -> None:
    connect, inside = head("CONNECT", "elsewhere:443"), head("GET", "/x", "connection: close")
    limits = dataclasses.replace(FAST, tunnels=True)
    async with plain(limits=limits) as site:
        for request in (connect + inside, inside):
            got = await site.exchange(request)
            assert got.count(b"HTTP/1.1 200 ") == 1 + (request != inside)
        assert [scope["raw_path"] for scope in site.scopes] == [b"/x", b"/x"]
        again = await site.exchange(connect * 3)
        assert again.count(b"HTTP/1.1 200 OK\r\n\r\n") == 1
        assert again.count(b"HTTP/1.1 400 ") == 1
        body = await site.exchange(head("CONNECT", "x:1", "content-length: 3") + b"abc")
        assert body.startswith(b"HTTP/1.1 400 ")
        behind = await site.exchange(head("GET", "/y") + connect)
        assert behind.count(b"HTTP/1.1 400 ") == 1
    async with plain() as site:
        assert (await site.exchange(connect + inside)).startswith(b"HTTP/1.1 400 ")
        assert site.scopes == []


async def test_an_oversize_head_is_431_however_it_comes(running: Running) -> None:
    big = "x: " + "y" * 70_000
    many = [f"x{n}: {'y' * 60}" for n in range(1000)]
    async with running() as site:
        for request in (head("GET", "/", big), head("GET", "/", *many), head("GET", "/" + big[3:])):
            assert (await site.exchange(request)).startswith(b"HTTP/1.1 431 ")
        trailers = head("PUT", "/", "transfer-encoding: chunked") + b"0\r\n" + big.encode()
        assert (await site.exchange(trailers + b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")
        fits = head("GET", "/", "x: " + "y" * 60_000, "connection: close")
        assert (await site.exchange(fits)).startswith(b"HTTP/1.1 200 ")


async def test_trailers_do_not_become_headers(plain: Running) -> None:
    async with plain() as site:
        chunks = b"3\r\nabc\r\n0\r\nauthorization: me\r\n\r\n"
        request = head("PUT", "/", "transfer-encoding: chunked", "connection: close") + chunks
        assert (await site.exchange(request)).endswith(b"\r\n\r\nabc")
        assert b"authorization" not in dict(site.scopes[0]["headers"])


AMBIGUOUS = {
    "length and chunked": ("PUT", ["content-length: 3", "transfer-encoding: chunked"], 400),
    "chunked and length": ("PUT", ["transfer-encoding: chunked", "content-length: 3"], 400),
    "two lengths": ("PUT", ["content-length: 3", "content-length: 4"], 400),
    "a list of lengths": ("PUT", ["content-length: 3, 4"], 400),
    "a negative length": ("PUT", ["content-length: -3"], 400),
    "a signed length": ("PUT", ["content-length: +3"], 400),
    "an endless length": ("PUT", ["content-length: " + "9" * 30], 400),
    "gzip before chunked": ("PUT", ["transfer-encoding: gzip, chunked"], 501),
    "chunked before gzip": ("PUT", ["transfer-encoding: chunked, gzip"], 400),
    "a folded header": ("GET", ["x: a", " b"], 400),
    "a space before the colon": ("GET", ["content-length : 3"], 400),
    "two hosts": ("GET", ["host: y"], 400),
    "an unknown expectation": ("PUT", ["expect: tea", "content-length: 1"], 417),
    "a bare line feed": ("GET", ["x: a\nb: c"], 400),
    "a NUL": ("GET", ["x: a\0b"], 400),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_ambiguous_requests_are_refused(plain: Running, name: str) -> None:
    method, lines, status = AMBIGUOUS[name]
    async with plain() as site:
        reply = await site.exchange(head(method, "/", *lines) + b"3\r\nabc\r\n0\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 %d " % status), reply
        assert reply.count(b"HTTP/1.1") == 1
        assert site.scopes == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET x HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"get / HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_4xx_or_505(plain: Running, request_bytes: bytes) -> None:
    async with plain() as site:
        reply = await site.exchange(request_bytes)
        assert re.match(rb"HTTP/1.1 (4\d\d|505) ", reply), reply
        assert site.scopes == []


async def test_a_bad_chunk_is_400_and_the_application_sees_a_disconnect(running: Running) -> None:
    async with running() as site:
        chunks = b"3\r\nabc\r\nzz\r\n"
        reply = await site.exchange(head("PUT", "/", "transfer-encoding: chunked") + chunks)
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert reply.count(b"HTTP/1.1") == 1
        await site.left.wait()
        assert [how for _, how in site.bodies] == ["disconnect"]


async def test_an_upgrade_is_answered_in_http_1_1_and_nothing_behind_it_is_read(
    plain: Running,
) -> None:
    async with plain() as site:
        upgrade = head("GET", "/refuse", "connection: upgrade", "upgrade: h2c")
        reply = await site.exchange(upgrade + head("GET", "/smuggled"))
        assert reply.startswith(b"HTTP/1.1 403 ")
        assert len(site.scopes) == 1


# ---------------------------------------------------------------------- bodies
async def test_100_continue_is_sent_when_the_application_reads(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        client.writer.write(head("PUT", "/wait", "expect: 100-continue", "content-length: 3"))
        await site.entered.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.read(1)
        site.gate.set()
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"abc"))[0] == 200
        assert site.bodies == [(3, "complete")]
        await client.close()


async def test_a_refused_body_is_never_asked_for(running: Running) -> None:
    async with running() as site:
        request = head("PUT", "/refuse", "expect: 100-continue", "content-length: 999999999")
        reply = await site.exchange(request)
        assert reply.startswith(b"HTTP/1.1 403 ")
        assert b"connection: close\r\n" in reply
        assert reply.count(b"HTTP/1.1") == 1


async def test_the_reply_to_a_refused_body_reaches_a_client_that_still_sends(
    running: Running,
) -> None:
    async with running() as site:
        client = await site.connect()
        client.writer.write(head("PUT", "/refuse", "content-length: 9999999") + bytes(3 << 20))
        status, lines, body = await client.reply()
        assert (status, body) == (403, b"no")
        assert b"connection: close" in lines
        assert await client.rest() == b""  # and the connection ends by itself
        await client.close()


async def test_a_short_refused_body_is_discarded_and_the_connection_goes_on(
    plain: Running,
) -> None:
    async with plain() as site:
        client = await site.connect()
        request = head("PUT", "/refuse", "content-length: 20000")
        status, lines, _ = await client.ask(request + bytes(10_000))
        assert (status, b"close" in lines) == (403, False)
        client.writer.write(bytes(10_000))
        assert (await client.ask(head("GET", "/x")))[0] == 200
        await client.close()


async def test_a_large_body_comes_in_large_pieces_and_reading_stops_when_nobody_takes(
    plain: Running,
) -> None:
    size = 24 << 20
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("PUT", "/wait", f"content-length: {size}"))
        client.writer.write(bytes(size))
        await site.entered.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):  # longer than the body's window: our own pause
                await client.writer.drain()
        site.gate.set()
        status, _, body = await client.reply()
        assert (status, len(body)) == (200, size)
        assert max(site.pieces) <= (1 << 20) + (1 << 18)
        assert size / len(site.pieces) > 50_000
        await client.close()


async def test_small_segments_are_joined_for_a_slow_application(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("PUT", "/wait", "transfer-encoding: chunked"))
        client.writer.write(b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
        await site.entered.wait()
        await asyncio.sleep(0.05)
        site.gate.set()
        assert (await client.reply())[2] == b"x" * 5000
        assert len(site.pieces) < 10
        await client.close()


async def test_a_client_that_vanishes_ends_its_request(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        client.writer.write(head("PUT", "/x", "content-length: 100") + b"some")
        await client.writer.drain()
        async with asyncio.timeout(5):
            while not site.pieces:  # noqa: ASYNC110 - the application is polled
                await asyncio.sleep(0.005)
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            await site.left.wait()
        assert site.bodies == [(4, "disconnect")]


async def test_an_endless_reply_stops_when_its_client_is_gone(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/endless"))
        await client.reader.readexactly(1 << 20)
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            await site.left.wait()


async def test_an_application_can_wait_for_the_disconnect(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/watch"))
        await site.entered.wait()
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            await site.left.wait()


async def test_a_half_closed_client_still_gets_its_reply(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("PUT", "/wait", "content-length: 2") + b"ab")
        client.writer.write_eof()
        await site.entered.wait()
        site.gate.set()
        assert (await client.reply())[2] == b"ab"
        await client.close()


# ---------------------------------------------------------------------- pipelines
async def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        puts = [head("PUT", "/", "content-length: 1") + b"%d" % n for n in range(6)]
        client.writer.write(b"".join(puts))
        assert [(await client.reply())[2] for _ in range(6)] == [b"%d" % n for n in range(6)]
        await client.close()


async def test_an_error_in_a_pipeline_follows_the_replies_before_it(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/wait") + head("GET", "/x") + b"NONSENSE\r\n\r\n")
        await site.entered.wait()
        site.gate.set()
        assert [(await client.reply())[0] for _ in range(3)] == [200, 200, 400]
        assert await client.rest() == b""
        await client.close()


async def test_a_pipeline_is_bounded(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/wait") * 5000)
        await site.entered.wait()
        assert len(site.scopes) == 1
        site.gate.set()
        replies = await client.rest()
        assert replies.count(b"HTTP/1.1 200") <= 9
        assert replies.count(b"HTTP/1.1 400") == 1
        await client.close()


# ---------------------------------------------------------------------- time and number
async def test_a_slow_head_is_cut_off(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        data = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            for byte in head("GET", "/" + "x" * 200):
                client.writer.write(bytes([byte]))
                await client.writer.drain()
                async with asyncio.timeout(0.1):
                    data = await client.reader.read(100)
                    break
        if not data:
            with contextlib.suppress(TimeoutError):
                data = await client.rest()
        assert data.startswith(b"HTTP/1.1 408 ")
        await client.close()


async def test_a_slow_body_is_cut_off(running: Running) -> None:
    async with running() as site:
        reply = await site.exchange(head("PUT", "/x", "content-length: 5000") + b"drip")
        assert reply.startswith(b"HTTP/1.1 408 ")
        await site.left.wait()
        assert site.bodies == [(4, "disconnect")]


async def test_idle_and_silent_connections_are_closed(running: Running) -> None:
    async with running() as site:
        silent = await site.connect()
        used = await site.connect()
        assert (await used.ask(head("GET", "/x")))[0] == 200
        assert await silent.rest() == b""
        assert await used.rest() == b""
        await silent.close()
        await used.close()


async def test_a_request_at_work_is_not_idle(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/wait"))
        await asyncio.sleep(0.9)
        site.gate.set()
        assert (await client.reply())[0] == 200
        await client.close()


async def test_a_client_that_reads_nothing_is_cut_off(plain: Running) -> None:
    async with plain() as site:
        client = await site.connect()
        client.writer.write(head("GET", "/endless"))
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(8):
            await site.left.wait()
        await client.close()


async def test_one_connection_too_many_gets_a_503(plain: Running) -> None:
    async with plain() as site:
        clients = [await site.connect() for _ in range(8)]
        for client in clients:
            assert (await client.ask(head("GET", "/x")))[0] == 200
        assert (await site.exchange(b"")).startswith(b"HTTP/1.1 503 ")
        for client in clients:
            await client.close()


# ---------------------------------------------------------------------- the end
async def test_stop_lets_a_request_finish_and_closes_idle_connections(running: Running) -> None:
    async with running() as site:
        idle, busy = await site.connect(), await site.connect()
        assert (await idle.ask(head("GET", "/x")))[0] == 200
        busy.writer.write(head("GET", "/wait"))
        await site.entered.wait()
        site.stop.set()
        assert await idle.rest() == b""
        site.gate.set()
        status, lines, _ = await busy.reply()
        assert (status, b"connection: close" in lines) == (200, True)
        await idle.close()
        await busy.close()


async def test_stop_is_bounded(plain: Running) -> None:
    async with plain(limits=HttpLimits(shutdown=0.2)) as site:
        client = await site.connect()
        client.writer.write(head("GET", "/wait"))
        await site.entered.wait()
        site.stop.set()
        async with asyncio.timeout(3):
            await site.left.wait()
        await client.close()


async def test_a_new_certificate_serves_new_connections(certificates: list[Certificate]) -> None:
    async with running_site(certificates[0]) as site:

        async def name() -> bytes:
            client = await site.connect()
            der = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert (await client.ask(head("GET", "/x")))[0] == 200
            await client.close()
            return cast("bytes", der)

        before = await name()
        assert site.server_tls is not None
        with pytest.raises(ssl.SSLError):
            reload_certificate(site.server_tls, certificates[1][0], certificates[0][1])
        assert await name() == before
        reload_certificate(site.server_tls, *certificates[1])
        assert await name() != before


FRAGMENTS = [
    b"GET / HTTP/1.1\r\n",
    b"PUT /stream HTTP/1.1\r\n",
    b"host: x\r\n",
    b"\r\n",
    b"content-length: 2\r\n",
    b"transfer-encoding: chunked\r\n",
    b"2\r\nab\r\n",
    b"0\r\n\r\n",
    b"expect: 100-continue\r\n",
    b"connection: close\r\n",
]


@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=20), max_size=14))
@settings(max_examples=60, deadline=None)
def test_random_requests_never_break_the_server(pieces: list[bytes]) -> None:
    async def main() -> None:
        async with running_site(None) as site:
            client = await site.connect()
            client.writer.write(b"".join(pieces))
            client.writer.write_eof()
            data = await client.rest()
            assert b" 500 " not in data
            assert data == b"" or data.startswith(b"HTTP/1.1 ")
            await client.close()
            assert (await site.exchange(head("GET", "/x", "connection: close")))[9:12] == b"200"

    asyncio.run(main())
