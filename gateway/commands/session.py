"""What commands share: the network of a data directory, questions to it, an S3 client, output."""

import argparse
import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from chain.net.transport import Message
from gateway.config import DEFAULT_DATA_DIR
from gateway.credentials import read_credentials
from gateway.network import Network, read_network
from gateway.values import parse_path

Reply = TypeVar("Reply", bound=msgspec.Struct)
ASK_SECONDS = 30.0


def data_dir_of(options: argparse.Namespace) -> Path:
    """`--data-dir`, CUMULUS_DATA_DIR or the default."""
    chosen = options.data_dir or os.environ.get("CUMULUS_DATA_DIR") or DEFAULT_DATA_DIR
    return parse_path(chosen)


def network_of(options: argparse.Namespace) -> Network:
    """The running network. Raises NotRunning."""
    return read_network(data_dir_of(options) / "run" / "network.json")


def ask(network: Network, message: Message[Reply], seconds: float = ASK_SECONDS) -> Reply:
    """Ask the catalog process. Raises RemoteError, Unreachable."""
    from chain.net.nodes import NodeTransport

    async def exchange() -> Reply:
        transport = NodeTransport()
        try:
            peer = transport.connect(network.catalog_address)
            return await peer.ask(message, timeout=seconds)
        finally:
            await transport.close()

    return asyncio.run(exchange())


def s3_client(network: Network, *, streaming: bool = False) -> Any:
    """boto3's S3 client, as the account in DIR/credentials.

    `streaming`: bodies are read once, while they are sent; nothing is hashed before.
    """
    import boto3
    from botocore.config import Config as ClientConfig

    access, secret = read_credentials(network.credentials_path)
    authority = network.config.data_dir / "tls" / "ca.pem"
    session = boto3.session.Session(
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name=network.config.s3_region or "us-east-1",
    )
    return session.client(
        "s3",
        endpoint_url=network.endpoints.s3,
        verify=str(authority) if network.config.tls else None,
        config=ClientConfig(
            s3={"addressing_style": "path"}
            | ({"payload_signing_enabled": False} if streaming else {}),
            request_checksum_calculation="when_required" if streaming else "when_supported",
            retries={"max_attempts": 3},
            connect_timeout=5,
        ),
    )


def show(options: argparse.Namespace, value: Any, text: Callable[[], str]) -> int:
    """Print `value` as JSON when asked to, else the text; exit code 0."""
    if options.json:
        plain = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
        print(json.dumps(plain, indent=1, default=str))
    else:
        line = text()
        if line:
            print(line)
    return 0


def table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Columns of text; nothing but the heads when there are no rows."""
    cells = [heads, *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def size_text(size: int) -> str:
    """4096 -> `4.0 KiB`."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError(size)
