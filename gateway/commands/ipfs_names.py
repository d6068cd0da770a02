"""`cumulus ipfs key …`, `cumulus ipfs name …`: IPNS keys and what they lead to, by the API port."""

import argparse
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.commands.failures import Failed
from gateway.commands.options import Parsers, action, group
from gateway.commands.session import network_of, show, table
from gateway.ipfs.ipns.keys import SERIALISED_MAX
from gateway.network import Network

_SECONDS = 60.0
_REPLY_MAX = 8 << 20


def add_names(actions: Parsers) -> None:
    """Declare the commands."""
    keys = group(actions, "key", "IPNS keys of a bucket", "cumulus ipfs key gen site")
    parser = _action(keys, "gen", generate, "make one", "cumulus ipfs key gen site", "name")
    parser.add_argument("--type", choices=("ed25519", "rsa"), default="ed25519")
    parser.add_argument("--size", metavar="BITS", default="2048", help="of an RSA key")
    _action(keys, "list", listed, "what keys there are", "cumulus ipfs key list")
    parser = _action(
        keys, "rename", rename, "another name for one", "cumulus ipfs key rename a b", "name", "new"
    )
    parser.add_argument("--force", action="store_true", help="in place of a key of that name")
    _action(keys, "rm", remove, "forget one for ever", "cumulus ipfs key rm site", "name")
    _action(
        keys, "import", import_key, "keep one that was made elsewhere",
        "cumulus ipfs key import site site.key", "name", "file",
    )  # fmt: skip
    _action(
        keys, "export", export_key, "write one to a file, in the clear",
        "cumulus ipfs key export site site.key", "name", "file",
    )  # fmt: skip
    names = group(actions, "name", "what IPNS names lead to", "cumulus ipfs name publish /ipfs/CID")
    parser = _action(
        names, "publish", publish,
        "let a key's name lead to a path, or follow a bucket; it is renewed from then on",
        "cumulus ipfs name publish /ipfs/CID --key site\n"
        "  cumulus ipfs name publish s3://www --key site", "path",
    )  # fmt: skip
    parser.add_argument("--key", metavar="NAME", default="self")
    parser.add_argument("--lifetime", metavar="T", default="48h", help="of a record: 48h, 30m")
    parser.add_argument("--ttl", metavar="T", default="5m", help="for which caches keep it")
    parser = _action(
        names, "resolve", resolve, "where a name leads", "cumulus ipfs name resolve k51…"
    )
    parser.add_argument("name", nargs="?", default="", help="default: the bucket's own key")


def _action(
    parsers: Parsers, name: str, run: Any, text: str, example: str, *arguments: str
) -> argparse.ArgumentParser:
    parser = action(parsers, name, run, text, example)
    for argument in arguments:
        parser.add_argument(argument, metavar=argument.upper())
    parser.add_argument(
        "--token", metavar="T", default=os.environ.get("CUMULUS_IPFS_TOKEN", ""),
        help="of a bucket (CUMULUS_IPFS_TOKEN); without one: the API's own bucket",
    )  # fmt: skip
    return parser


def generate(options: argparse.Namespace) -> int:
    """Make a key and print its name in IPNS."""
    made = _value(options, "key/gen", options.name, type=options.type, size=options.size)
    return show(options, made, lambda: str(made["Id"]))


def listed(options: argparse.Namespace) -> int:
    """Print the keys."""
    found = _value(options, "key/list")
    rows: list[tuple[object, ...]] = [(key["Name"], key["Id"]) for key in found["Keys"]]
    return show(options, found, lambda: table(("NAME", "ID"), rows))


def rename(options: argparse.Namespace) -> int:
    """Give a key another name."""
    force = str(options.force).lower()
    done = _value(options, "key/rename", options.name, options.new, force=force)
    return show(options, done, lambda: f"{done['Now']}: {done['Id']}")


def remove(options: argparse.Namespace) -> int:
    """Forget a key."""
    gone = _value(options, "key/rm", options.name)
    return show(options, gone, lambda: f"{options.name}: removed")


def import_key(options: argparse.Namespace) -> int:
    """Read a key from a file."""
    with Path(options.file).open("rb") as file:
        data = file.read(SERIALISED_MAX + 1)
    kept = _value(options, "key/import", options.name, body=data)
    return show(options, kept, lambda: str(kept["Id"]))


def export_key(options: argparse.Namespace) -> int:
    """Write a key to a new file that nobody else may read."""
    data = _call(options, "key/export", options.name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(options.file, flags, 0o600), "wb") as file:
        file.write(data)
    return show(options, {"file": options.file}, lambda: "")


def publish(options: argparse.Namespace) -> int:
    """Publish a path under a key."""
    made = _value(
        options, "name/publish", options.path,
        key=options.key, lifetime=options.lifetime, ttl=options.ttl,
    )  # fmt: skip
    gateway = network_of(options).endpoints.ipfs
    return show(options, made, lambda: f"{gateway}/ipns/{made['Name']} -> {made['Value']}")


def resolve(options: argparse.Namespace) -> int:
    """Print where a name leads."""
    found = _value(options, "name/resolve", *([options.name] if options.name else []))
    return show(options, found, lambda: str(found["Path"]))


def _value(
    options: argparse.Namespace, command: str, *arguments: str, body: bytes = b"", **query: str
) -> Any:
    return json.loads(_call(options, command, *arguments, body=body, **query))


def _call(
    options: argparse.Namespace, command: str, *arguments: str, body: bytes = b"", **query: str
) -> bytes:
    """A command of the API. Raises Failed with what it says, OSError."""
    network = network_of(options)
    pairs = [*(("arg", argument) for argument in arguments), *query.items()]
    headers: dict[str, str] = {}
    if options.token:
        headers["Authorization"] = f"Bearer {options.token}"
    if body:
        body, headers["Content-Type"] = _form(body)
    status, reply = _post(network, f"/api/v0/{command}?{urlencode(pairs)}", headers, body)
    if status != 200:
        try:
            raise Failed(str(json.loads(reply)["Message"]))
        except (ValueError, KeyError, TypeError):
            raise Failed(f"the IPFS API answers {status}") from None
    return reply


def _post(
    network: Network, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    import ssl
    from http.client import HTTPConnection, HTTPSConnection

    url = urlsplit(network.endpoints.ipfs_api or "")
    host = url.hostname or ""
    if url.scheme == "https":
        authority = network.config.data_dir / "tls" / "ca.pem"
        context = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
        connection: HTTPConnection = HTTPSConnection(
            host, url.port, timeout=_SECONDS, context=context
        )
    else:
        connection = HTTPConnection(host, url.port, timeout=_SECONDS)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read(_REPLY_MAX)
    finally:
        connection.close()


def _form(data: bytes) -> tuple[bytes, str]:
    """A multipart/form-data body of one file, and its type."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="key"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
