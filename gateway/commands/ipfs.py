"""`cumulus ipfs …`: give a bucket's objects IPFS CIDs."""

import argparse

from gateway.commands.options import Parsers, action, group
from gateway.commands.session import ask, network_of, show
from gateway.protocol import PublishState, SetPublishing, ShowPublishing


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(parsers, "ipfs", "publish buckets to IPFS", "cumulus ipfs publish photos on")
    parser = action(
        actions, "publish", publish, "give its objects CIDs, or stop",
        "cumulus ipfs publish photos on",
    )  # fmt: skip
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("state", choices=("on", "off"))
    parser = action(
        actions, "status", status, "how far publishing is", "cumulus ipfs status photos"
    )
    parser.add_argument("bucket", metavar="BUCKET")


def publish(options: argparse.Namespace) -> int:
    """Switch publishing."""
    network = network_of(options)
    state = ask(network, SetPublishing(options.bucket, options.state == "on"))
    return show(options, state, lambda: _text(state, network.endpoints.ipfs))


def status(options: argparse.Namespace) -> int:
    """Print how far publishing is."""
    network = network_of(options)
    state = ask(network, ShowPublishing(options.bucket))
    return show(options, state, lambda: _text(state, network.endpoints.ipfs))


def _text(state: PublishState, gateway: str | None) -> str:
    if not state.publishes:
        return f"{state.name}: not published"
    lines = [f"{state.name}: published, {state.objects} objects, {state.pending} pending"]
    if state.cid and gateway:
        lines.append(f"{gateway}/ipfs/{state.cid}/")
    return "\n".join(lines)
