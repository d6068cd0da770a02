"""The S3 front end under uvicorn on a free port, for tests that drive it with real clients."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
import uvicorn
from botocore.config import Config

from gateway.model import Account, Credential
from gateway.s3.app import S3App
from gateway.s3.config import S3Config
from tests.conformance.s3_memory_objects import MemoryObjects

ALICE = Credential("alicekey/1", "alice/secret+key", Account("alice-id", "Alice A."))
BOB = Credential("bobkey", "bobsecret", Account("bob-id", "Bob"))
CREDENTIALS = {c.access_key: c for c in (ALICE, BOB)}


@dataclass
class Server:
    """A running server: `endpoint` is its URL."""

    endpoint: str
    app: S3App

    def client(self, who: Credential = ALICE, **options: object):
        """A boto3 client; `options` go to botocore's Config."""
        settings = {"retries": {"max_attempts": 1}, "s3": {"addressing_style": "path"}} | options
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            region_name="us-east-1",
            config=Config(**settings),
        )


@contextmanager
def running(config: S3Config | None = None) -> Iterator[Server]:
    """Serve a fresh MemoryObjects until the block ends."""
    app = S3App(MemoryObjects(), CREDENTIALS.get, config)  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="critical", lifespan="off", server_header=False, date_header=False
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
