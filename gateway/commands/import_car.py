"""`cumulus ipfs import-car`: CARs become objects whose blocks are published."""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from chain.cids import Cid
from gateway.commands.failures import Failed
from gateway.commands.options import Parsers, action
from gateway.commands.progress import Progress
from gateway.commands.s3 import s3_errors
from gateway.commands.session import ask, network_of, s3_client, show, size_text
from gateway.ipfs.codecs.car import CarReader
from gateway.ipfs.codecs.whole import Whole
from gateway.ipfs.errors import BlockError
from gateway.ipfs.index.tokens import API_BUCKET
from gateway.model import CAR, IMPORT
from gateway.network import Network
from gateway.protocol import SetPublishing, ShowPublishing

PREFIX = "cars/"
_PIECE = 1 << 20
_PUT_MAX = 5 << 30
_HASH_CHARACTERS = 16


class Checked(NamedTuple):
    """A file that was read to its end, and is a CAR."""

    path: Path
    size: int
    hash: str
    roots: tuple[Cid, ...]
    blocks: int

    @property
    def key(self) -> str:
        """Where it goes: the same file to the same key, and no other file."""
        return f"{PREFIX}{self.path.stem}-{self.hash[:_HASH_CHARACTERS]}.car"


def add_import_car(actions: Parsers) -> None:
    """Declare the command."""
    parser = action(
        actions, "import-car", import_car, "publish the blocks of CAR files",
        "cumulus ipfs import-car site.car",
    )  # fmt: skip
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--partial", action="store_true", help="blocks may be missing, and stay so")
    parser.add_argument(
        "--bucket", metavar="B", default=API_BUCKET, help=f"where they go: {API_BUCKET}"
    )


def import_car(options: argparse.Namespace) -> int:
    """Check the files, all of them first, then store them."""
    network = network_of(options)
    checked = _check(options.files, partial=options.partial)
    with s3_errors():
        client = s3_client(network, streaming=True)
        _publishing(network, client, options.bucket)
        with Progress(sum(file.size for file in checked)) as progress:
            for file in checked:
                progress.name(file.path.name)
                _store(client, options.bucket, file, progress)
    plain = [
        {
            "file": str(file.path),
            "key": file.key,
            "roots": [str(root) for root in file.roots],
            "blocks": file.blocks,
            "bytes": file.size,
        }
        for file in checked
    ]
    return show(options, plain, lambda: "\n".join(_said(network, file) for file in checked))


def _said(network: Network, file: Checked) -> str:
    lines = [f"{file.path.name}: {file.blocks} blocks, {size_text(file.size)}"]
    gateway = network.endpoints.ipfs or ""
    return "\n".join(lines + [f"{gateway}/ipfs/{root}" for root in file.roots])


def _check(paths: list[Path], *, partial: bool) -> list[Checked]:
    """Read every block of every file. Raises Failed for the first that is not as it should be."""
    whole = Whole()
    found: list[Checked] = []
    with Progress(sum(path.stat().st_size for path in paths)) as progress:
        for path in paths:
            progress.name(f"checking {path.name}")
            with path.open("rb") as file:
                found.append(_read(path, file, None if partial else whole, progress))
    if not partial:
        for each in found:
            missing = whole.missing(each.roots)
            if missing is not None:
                raise Failed(
                    f"{each.path}: block {missing} is missing; --partial imports what is there"
                )
    return found


def _read(path: Path, file: IO[bytes], whole: Whole | None, progress: Progress) -> Checked:
    reader, digest = CarReader(), hashlib.sha256()
    blocks = size = 0
    try:
        while data := file.read(_PIECE):
            digest.update(data)
            size += len(data)
            for cid, block in reader.feed(data):
                if whole is not None:
                    whole.add(cid, block)
                blocks += 1
            progress.advance(len(data))
        reader.finish()
    except BlockError as error:
        raise Failed(f"{path}: {error}") from None
    return Checked(path, size, digest.hexdigest(), reader.roots or (), blocks)


def _publishing(network: Network, client: Any, bucket: str) -> None:
    """The API's bucket is made; another one has to publish. Raises Failed."""
    if bucket == API_BUCKET:
        if API_BUCKET not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=API_BUCKET)
            ask(network, SetPublishing(API_BUCKET, True))
    elif not ask(network, ShowPublishing(bucket)).publishes:
        raise Failed(f"bucket {bucket} does not publish: cumulus ipfs publish {bucket} on")


def _store(client: Any, bucket: str, file: Checked, progress: Progress) -> None:
    metadata = {IMPORT: CAR}
    if file.size > _PUT_MAX:
        more = {"Metadata": metadata}
        client.upload_file(str(file.path), bucket, file.key, more, progress.advance)
        return
    with file.path.open("rb") as body:
        client.put_object(
            Bucket=bucket,
            Key=file.key,
            Body=_Told(body, progress),
            ContentLength=file.size,
            Metadata=metadata,
        )


class _Told:
    """A file whose reading shows."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._progress.advance(len(data))
        return data

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read(_PIECE):
            yield data

    def seek(self, *where: int) -> int:
        """A try again begins anew."""
        return self._file.seek(*where)

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._file.tell()
