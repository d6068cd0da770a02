"""`cumulus ipfs …`: give a bucket's objects IPFS CIDs."""

import argparse
from pathlib import Path

from chain.net.transport import Payload
from gateway.commands.failures import WrongUse
from gateway.commands.import_car import add_import_car
from gateway.commands.ipfs_names import add_names
from gateway.commands.options import Parsers, action, group
from gateway.commands.session import ask, network_of, show
from gateway.ipfs.index.tokens import API_BUCKET
from gateway.ipfs.ipns.record import RECORD_BYTES_MAX
from gateway.protocol import (
    CreateToken,
    ImportIpns,
    ListTokens,
    PublishState,
    RevokeToken,
    SetPublishing,
    ShowPublishing,
)


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(parsers, "ipfs", "publish buckets to IPFS", "cumulus ipfs publish photos on")
    parser = action(
        actions, "publish", publish, "give its objects CIDs, or stop",
        "cumulus ipfs publish photos on\n  cumulus ipfs publish s3://photos/cat.jpg on",
    )  # fmt: skip
    parser.add_argument("what", metavar="BUCKET|s3://BUCKET/KEY")
    parser.add_argument("state", choices=("on", "off"))
    parser = action(
        actions, "status", status, "how far publishing is, and the CID",
        "cumulus ipfs status photos\n  cumulus ipfs status s3://photos/2026/",
    )  # fmt: skip
    parser.add_argument("what", metavar="BUCKET|s3://BUCKET/PREFIX/|s3://BUCKET/KEY")
    parser = action(
        actions, "import-ipns", import_ipns, "keep a signed IPNS record, so that its name resolves",
        "cumulus ipfs import-ipns k51… site.ipns-record",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("file", metavar="FILE", type=Path)
    add_import_car(actions)
    add_names(actions)
    tokens = group(
        actions, "token", "tokens of the IPFS API", "cumulus ipfs token create --bucket photos"
    )
    parser = action(
        tokens, "create", create_token, "make one; its text is shown once",
        "cumulus ipfs token create --bucket photos",
    )  # fmt: skip
    parser.add_argument("--bucket", metavar="B", default="", help="where it writes: ipfs-api")
    action(tokens, "list", list_tokens, "what tokens there are", "cumulus ipfs token list")
    parser = action(
        tokens, "revoke", revoke_token, "end one", "cumulus ipfs token revoke 0123456789abcdef"
    )
    parser.add_argument("id", metavar="ID")


def import_ipns(options: argparse.Namespace) -> int:
    """Import a record from a file."""
    with options.file.open("rb") as file:
        record = file.read(RECORD_BYTES_MAX + 1)
    network = network_of(options)
    kept = ask(network, ImportIpns(options.name, Payload(record)))
    return show(options, kept, lambda: f"{network.endpoints.ipfs}/ipns/{kept.name} -> {kept.value}")


def create_token(options: argparse.Namespace) -> int:
    """Make a token and print its text."""
    made = ask(network_of(options), CreateToken(options.bucket))
    return show(options, made, lambda: made.text)


def list_tokens(options: argparse.Namespace) -> int:
    """Print the tokens' ids and buckets."""
    found = ask(network_of(options), ListTokens())
    return show(
        options,
        found,
        lambda: "\n".join(f"{token.id}  {token.bucket or API_BUCKET}" for token in found.tokens),
    )


def revoke_token(options: argparse.Namespace) -> int:
    """End a token."""
    done = ask(network_of(options), RevokeToken(options.id))
    return show(options, done, lambda: f"{options.id}: revoked")


def publish(options: argparse.Namespace) -> int:
    """Switch publishing."""
    network = network_of(options)
    bucket, key = _place(options.what)
    if key.endswith("/"):
        raise WrongUse("publish a bucket or an object: a prefix follows its objects")
    state = ask(network, SetPublishing(bucket, options.state == "on", key))
    return show(options, state, lambda: _text(state, network.endpoints.ipfs))


def status(options: argparse.Namespace) -> int:
    """Print how far publishing is."""
    network = network_of(options)
    state = ask(network, ShowPublishing(*_place(options.what)))
    return show(options, state, lambda: _text(state, network.endpoints.ipfs))


def _place(what: str) -> tuple[str, str]:
    """(bucket, key or prefix)."""
    bucket, _, key = what.removeprefix("s3://").partition("/")
    return bucket, key


def _text(state: PublishState, gateway: str | None) -> str:
    name = f"s3://{state.name}/{state.key}" if state.key else state.name
    if not state.publishes:
        return f"{name}: not published"
    lines = [f"{name}: published, {state.objects} objects, {state.pending} pending"]
    if state.cid and gateway:
        folder = not state.key or state.key.endswith("/")
        lines.append(f"{gateway}/ipfs/{state.cid}{'/' if folder else ''}")
    return "\n".join(lines)
