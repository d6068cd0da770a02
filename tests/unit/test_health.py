"""The probe of a network's health, alone in an event loop that ends with it."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chain.clock import SystemClock
from gateway.health import fetch
from gateway.tls import ensure_self_signed


@pytest.fixture
def quiet_server(tmp_path: Path) -> Iterator[str]:
    """An https server that takes a request and says nothing, not even goodbye."""
    files = ensure_self_signed(tmp_path, [], "127.0.0.1", SystemClock())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        link = listener.accept()[0]
        with (
            suppress(OSError),  # on a busy machine the probe may leave within the handshake
            context.wrap_socket(link, server_side=True) as secure,
        ):
            secure.recv(1 << 16)
            over.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    over.set()
    thread.join()
    listener.close()


def test_a_probe_leaves_no_connection_behind(
    quiet_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.health.SECONDS", 0.2)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert asyncio.run(fetch(quiet_server, "/health/ready")) == (0, b"")
        gc.collect()
    assert not [str(one.message) for one in seen]
