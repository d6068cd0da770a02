"""The S3 front end under uvicorn on a free port, for tests that drive it with real clients."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import uvicorn
from botocore.config import Config

from gateway.ipfs.index.publish import IpfsPublisher
from gateway.model import Account, Credential
from gateway.objects import ObjectService
from gateway.s3.app import S3App
from gateway.s3.config import S3Config
from tests.unit.object_parts import World

ALICE = Credential("alicekey/1", "alice/secret+key", Account("alice-id", "Alice A."))
BOB = Credential("bobkey", "bobsecret", Account("bob-id", "Bob", "bob@store.test"))
CREDENTIALS = {c.access_key: c for c in (ALICE, BOB)}


@dataclass
class Server:
    """A running server: `endpoint` is its URL."""

    endpoint: str
    app: S3App

    def client(self, who: Credential = ALICE, **options: Any) -> Any:
        """A boto3 client; `options` go to botocore's Config."""
        settings: dict[str, Any] = {
            "retries": {"max_attempts": 1},
            "s3": {"addressing_style": "path"},
        }
        settings |= options
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            region_name="us-east-1",
            config=Config(**settings),
        )


async def fresh_store() -> ObjectService:
    """A whole object path in memory with both accounts."""
    world = World(publisher=IpfsPublisher())
    for account in (credential.account for credential in CREDENTIALS.values()):
        await world.accounts.create(account.name, id=account.id, email=account.email)
    return world.objects


@contextmanager
def running(config: S3Config | None = None) -> Iterator[Server]:
    """Serve a fresh, empty store until the block ends."""
    with serving(S3App(asyncio.run(fresh_store()), CREDENTIALS.get, config)) as server:
        yield server


@contextmanager
def serving(app: S3App) -> Iterator[Server]:
    """Serve an application until the block ends."""
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
