"""Bodies that an application has read to where it wants them, spoken to in raw bytes."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.net.http_exchange import FILL
from chain.net.http_protocol import SCRATCH_BYTES
from tests.protocol.http_site import Running, head, running_site

KIB, MIB = 1 << 10, 1 << 20


def data_of(size: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(size)


def put(size: int, step: int = MIB, *lines: str) -> bytes:
    return head("PUT", f"/fill/{step}", f"content-length: {size}", *lines)


@pytest.mark.parametrize("step", [1000, MIB, 5 * MIB])
async def test_a_body_is_read_to_its_places_and_no_further(running: Running, step: int) -> None:
    async with running() as site:
        site.gate.set()
        client = await site.connect()
        for size in (1, 999, 64 * KIB, SCRATCH_BYTES + 5, 3 * MIB, 3 * MIB + 1):
            body = data_of(size)
            # The next request is on its way before this one is answered.
            client.writer.write(put(size, step) + body + head("GET", "/next"))
            status, _, echoed = await client.reply()
            assert (status, echoed == body) == (200, True)
            assert (await client.reply())[0] == 200
        assert [scope["path"] for scope in site.scopes[1::2]] == ["/next"] * 6
        full = site.pieces[-(3 * MIB // step) - 2 : -2]  # the GET has a piece too
        assert set(full) <= {step}
        await client.close()


@given(
    st.lists(st.integers(0, 300 * KIB), min_size=1, max_size=4),
    st.lists(st.integers(1, 400 * KIB), max_size=6),
    st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_however_requests_are_cut_the_same_ones_arrive(
    sizes: list[int], cuts: list[int], encoded: bool
) -> None:
    requests = []
    for n, size in enumerate(sizes):
        body = data_of(size, n)
        if encoded and n % 2:
            chunk = f"{size:x}\r\n".encode() + body + b"\r\n" if size else b""
            chunk += b"0\r\n\r\n"
            requests.append(head("PUT", "/echo", "transfer-encoding: chunked") + chunk)
        else:
            path = "/fill/50000" if size else "/echo"
            requests.append(head("PUT", path, f"content-length: {size}") + body)
    sent = b"".join(requests)

    async def main() -> None:
        async with running_site(None) as site:
            site.gate.set()
            client = await site.connect()

            async def send() -> None:
                at = 0
                for cut in (*cuts, len(sent)):
                    client.writer.write(sent[at : at + cut])
                    await client.writer.drain()
                    await asyncio.sleep(0.001)
                    at += cut

            async with asyncio.TaskGroup() as group:
                group.create_task(send())
                for n, size in enumerate(sizes):
                    status, _, body = await client.reply()
                    assert (status, body == data_of(size, n)) == (200, True)
            assert len(site.scopes) == len(sizes)
            await client.close()

    asyncio.run(main())


async def test_nothing_is_read_between_two_places_and_that_time_is_not_the_clients(
    plain: Running,
) -> None:
    size = 24 * MIB
    async with plain() as site:
        client = await site.connect()
        client.writer.write(put(size, 500_000) + bytes(size))
        await site.first.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):  # longer than the body's window: our own pause
                await client.writer.drain()
        assert site.scopes[0]["extensions"][FILL].__self__.buffered == 0
        site.gate.set()
        status, _, body = await client.reply()
        assert (status, len(body)) == (200, size)
        await client.close()


async def test_a_client_that_vanishes_fills_no_place(running: Running) -> None:
    async with running() as site:
        client = await site.connect()
        client.writer.write(put(MIB) + bytes(300 * KIB))
        await client.writer.drain()
        await site.entered.wait()
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            await site.left.wait()
        assert site.bodies == [(0, "disconnect")]


async def test_a_body_that_comes_too_slowly_to_its_place_is_cut_off(running: Running) -> None:
    async with running() as site:
        reply = await site.exchange(put(MIB) + bytes(70_000))
        assert reply.startswith(b"HTTP/1.1 408 ")
        await site.left.wait()
        assert site.bodies == [(0, "disconnect")]


async def test_100_continue_is_sent_when_a_place_is_there(running: Running) -> None:
    async with running() as site:
        site.gate.set()
        client = await site.connect()
        client.writer.write(put(MIB, MIB, "expect: 100-continue"))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(bytes(MIB)))[0] == 200
        await client.close()
