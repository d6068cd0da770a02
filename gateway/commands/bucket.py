"""`cumulus bucket …`: make, list, remove, open to the public."""

import argparse

from gateway.commands.limits import COUNT_SECONDS, add_limits, set_limits
from gateway.commands.options import Parsers, action, group
from gateway.commands.s3 import delete_prefix, list_buckets, s3_errors
from gateway.commands.session import ask, network_of, s3_client, show, table
from gateway.protocol import ReplicateAgain, SetPublic


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(parsers, "bucket", "make, list, remove, open buckets", "cumulus bucket ls")
    parser = action(actions, "create", create, "make a bucket", "cumulus bucket create photos")
    parser.add_argument("bucket", metavar="BUCKET")
    action(actions, "ls", list_all, "your buckets", "cumulus bucket ls")
    parser = action(actions, "rm", remove, "remove a bucket", "cumulus bucket rm photos --force")
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("--force", action="store_true", help="with everything in it")
    parser = action(
        actions, "public", public, "let everybody read it", "cumulus bucket public photos on"
    )
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("state", choices=("on", "off"))
    parser = action(
        actions, "limit", limit, "show or set what it may hold, and how often it may be asked",
        "cumulus bucket limit photos --bytes 100GiB --requests 200",
    )  # fmt: skip
    parser.add_argument("bucket", metavar="BUCKET")
    add_limits(parser)
    parser = action(
        actions, "replicate", replicate, "send again what its endpoints did not get",
        "cumulus bucket replicate photos",
    )  # fmt: skip
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("--all", action="store_true", help="also what is older than its rules")


def create(options: argparse.Namespace) -> int:
    """Make a bucket."""
    with s3_errors():
        s3_client(network_of(options)).create_bucket(Bucket=options.bucket)
    return show(options, {"bucket": options.bucket}, lambda: f"made s3://{options.bucket}")


def list_all(options: argparse.Namespace) -> int:
    """Print the account's buckets."""
    with s3_errors():
        found = list_buckets(s3_client(network_of(options)))
    rows: list[tuple[object, ...]] = [(name, created) for name, created in found]
    plain = [{"name": name, "created": created} for name, created in found]
    return show(options, plain, lambda: table(("BUCKET", "CREATED"), rows))


def remove(options: argparse.Namespace) -> int:
    """Remove a bucket; with --force its objects first."""
    with s3_errors():
        client = s3_client(network_of(options))
        removed = delete_prefix(client, options.bucket, "") if options.force else 0
        client.delete_bucket(Bucket=options.bucket)
    plain = {"bucket": options.bucket, "objects": removed}
    return show(options, plain, lambda: f"removed s3://{options.bucket}")


def limit(options: argparse.Namespace) -> int:
    """Show or set a bucket's limits."""
    return set_limits(options, bucket=options.bucket)


def replicate(options: argparse.Namespace) -> int:
    """Queue what is FAILED."""
    message = ReplicateAgain(options.bucket, options.all)
    state = ask(network_of(options), message, COUNT_SECONDS)
    left = f", {state.failed} found no room: again later" if state.failed else ""
    return show(options, state, lambda: f"versions that wait to be sent: {state.queued}{left}")


def public(options: argparse.Namespace) -> int:
    """Switch anonymous reading."""
    state = ask(network_of(options), SetPublic(options.bucket, options.state == "on"))
    word = "everybody reads all of it" if state.public else "lists and policies say who reads"
    return show(options, state, lambda: f"s3://{state.name}: {word}")
