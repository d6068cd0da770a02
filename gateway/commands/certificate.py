"""`cumulus object certificate`: fetch an ownership certificate."""

import argparse
from pathlib import Path

from chain.format import write_durably
from gateway.commands.failures import WrongUse
from gateway.commands.options import Parsers, action
from gateway.commands.s3 import parse_url
from gateway.commands.session import ask, network_of, show
from gateway.protocol import FetchCertificate


def add_certificate(actions: Parsers) -> None:
    """Declare the command."""
    parser = action(
        actions, "certificate", certificate, "fetch an object's ownership certificate",
        "cumulus object certificate s3://photos/a.jpg --output a.cert",
    )  # fmt: skip
    parser.add_argument("url", metavar="s3://BUCKET/KEY")
    parser.add_argument("--output", metavar="FILE", required=True)


def certificate(options: argparse.Namespace) -> int:
    """Fetch to a file."""
    bucket, key = parse_url(options.url)
    if not key:
        raise WrongUse("name an object: s3://BUCKET/KEY")
    found = ask(network_of(options), FetchCertificate(bucket, key))
    document = bytes(found.document.buffer)
    path = Path(options.output).absolute()
    write_durably(path, document)
    plain = {"file": str(path), "bytes": len(document)}
    return show(options, plain, lambda: f"wrote {path}")
