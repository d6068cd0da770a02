"""`cumulus object certificate`: fetch an ownership certificate; verify one offline."""

import argparse
from pathlib import Path

from chain.format import write_durably
from gateway.commands.failures import Failed, WrongUse
from gateway.commands.options import Parsers, action
from gateway.commands.s3 import parse_url
from gateway.commands.session import ask, data_dir_of, network_of, show
from gateway.protocol import FetchCertificate

FILE_BYTES_MAX = 8 << 20


def add_certificate(actions: Parsers) -> None:
    """Declare the command."""
    parser = action(
        actions, "certificate", certificate, "fetch or verify an ownership certificate",
        "cumulus object certificate s3://photos/a.jpg --output a.cert",
    )  # fmt: skip
    parser.add_argument("url", metavar="s3://BUCKET/KEY", nargs="?")
    parser.add_argument("--output", metavar="FILE", help="where to write it")
    parser.add_argument("--verify", metavar="FILE", help="check this certificate, offline")
    parser.add_argument(
        "--genesis", metavar="FILE", help="trust anchor (default DIR/chain/genesis.json)"
    )


def certificate(options: argparse.Namespace) -> int:
    """Fetch to a file, or verify a file."""
    if options.verify and not options.url and not options.output:
        return verify(options)
    if options.url and options.output and not options.verify and not options.genesis:
        return fetch(options)
    raise WrongUse("say s3://BUCKET/KEY --output FILE, or --verify FILE [--genesis FILE]")


def fetch(options: argparse.Namespace) -> int:
    """Write an object's certificate to a file."""
    bucket, key = parse_url(options.url)
    if not key:
        raise WrongUse("name an object: s3://BUCKET/KEY")
    found = ask(network_of(options), FetchCertificate(bucket, key))
    document = bytes(found.document.buffer)
    path = Path(options.output).absolute()
    write_durably(path, document)
    plain = {"file": str(path), "bytes": len(document)}
    return show(options, plain, lambda: f"wrote {path}")


def verify(options: argparse.Namespace) -> int:
    """Exit code 0: valid under the anchor; 1: anything else."""
    from chain.certificate import verify as prove
    from chain.cids import Cid
    from chain.errors import InvalidCertificate, InvalidGenesis
    from chain.genesis import parse

    anchor = Path(options.genesis or data_dir_of(options) / "chain" / "genesis.json")
    try:
        leaf = prove(_content(Path(options.verify)), parse(_content(anchor)))
    except InvalidGenesis as error:
        raise Failed(f"no trust anchor: {anchor}: {error}") from None
    except InvalidCertificate as error:
        raise Failed(f"not valid: {error}") from None
    plain = {
        "valid": True,
        "fid": str(Cid.from_bytes(leaf.fid)),
        "version": leaf.version,
        "owner": leaf.owner.hex(),
        "bytes": leaf.size,
        "operation": leaf.operation,
        "height": leaf.height,
    }
    return show(options, plain, lambda: "\n".join(f"{k:<10} {v}" for k, v in plain.items()))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise Failed(f"{path}: too large")
    return content
