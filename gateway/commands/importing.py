"""`cumulus object import`: what another S3 endpoint has, copied here; can be stopped and run again.

Both sides are listed in step, so what is here already costs a line of a page. An object keeps its
parts, and with them its ETag; every body sent is compared with the checksum that was computed here.
"""

import argparse
import hashlib
import io
import itertools
import json
import re
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from gateway.commands.failures import Failed, WrongUse
from gateway.commands.options import Parsers, action
from gateway.commands.progress import Progress
from gateway.commands.s3 import list_keys, parse_url, s3_errors
from gateway.commands.session import network_of, s3_client, show, size_text

MIB = 1 << 20
PUT_MAX = 5 << 30  # one PUT
PART = 64 * MIB  # of an object that is longer and had no parts
READ_WHOLE = 16 * MIB  # below, a body is read before it is sent, and can be sent again
ATTEMPTS = 3
_MD5 = re.compile(r'"[0-9a-f]{32}"')
_OF_PARTS = re.compile(r'"[0-9a-f]{32}-(\d{1,5})"')
_HEADERS = (
    "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType",
    "Expires", "Metadata", "WebsiteRedirectLocation",
)  # fmt: skip

Item = dict[str, Any]


def add_import(actions: Parsers) -> None:
    """Declare the command."""
    parser = action(
        actions, "import", import_all, "copy objects from another S3 endpoint, or go on with it",
        "cumulus object import s3://old-bucket/2026/ s3://photos/ --endpoint-url https://s3.test",
    )  # fmt: skip
    parser.add_argument("source", metavar="s3://BUCKET/PREFIX", help="what to copy")
    parser.add_argument("target", metavar="s3://BUCKET/PREFIX", help="where to, on this network")
    parser.add_argument("--endpoint-url", metavar="URL", help="the other side (default: AWS)")
    parser.add_argument("--profile", help="its credentials in your AWS configuration")
    parser.add_argument("--region", help="its region (default: your AWS configuration's)")
    parser.add_argument("--no-sign-request", action="store_true", help="ask without credentials")
    parser.add_argument(
        "--jobs", type=int, default=4, metavar="N", choices=range(1, 65), help="at a time (4)"
    )


def import_all(options: argparse.Namespace) -> int:
    """Copy what is missing; 1 when something could not be copied."""
    source_bucket, source_prefix = parse_url(options.source)
    bucket, prefix = parse_url(options.target)
    network = network_of(options)
    with s3_errors():
        copier = _Copier(
            _source_client(options),
            s3_client(network, streaming=True),
            (source_bucket, source_prefix),
            (bucket, prefix),
            _Uploads(network.config.data_dir / "imports" / _name_of(options)),
        )
        copier.check()
        done = copier.run(options.jobs)
    plain = msgspec.to_builtins(done)
    for key, reason in done.failed.items():
        print(f"{key}: {reason}", file=sys.stderr)
    show(
        options,
        plain,
        lambda: (
            f"copied {done.objects} ({size_text(done.bytes)}), {done.skipped} were here"
            + (f", {len(done.failed)} FAILED: run it again" if done.failed else "")
        ),
    )
    return 1 if done.failed else 0


def _name_of(options: argparse.Namespace) -> str:
    words = (options.endpoint_url or "", options.source, options.target)
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16] + ".json"


def _source_client(options: argparse.Namespace) -> Any:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    config = Config(
        signature_version=UNSIGNED if options.no_sign_request else None,
        retries={"max_attempts": 5, "mode": "adaptive"},
        max_pool_connections=options.jobs,
    )
    session = boto3.session.Session(profile_name=options.profile, region_name=options.region)
    try:
        return session.client("s3", endpoint_url=options.endpoint_url, config=config)
    except ValueError as error:
        raise WrongUse(f"--endpoint-url: {error}") from None


class Imported(msgspec.Struct):
    """What came of it."""

    objects: int = 0
    bytes: int = 0
    skipped: int = 0
    failed: dict[str, str] = msgspec.field(default_factory=dict)


class _Uploads:
    """Multipart uploads under way, in a file: a later run goes on with them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._kept: dict[str, list[str]] = json.loads(path.read_text())
        except (OSError, ValueError):
            self._kept = {}

    def get(self, key: str, etag: str) -> str:
        """The upload of this version of the source, or ""."""
        kept = self._kept.get(key)
        return kept[1] if kept and kept[0] == etag else ""

    def set(self, key: str, etag: str, upload_id: str) -> None:
        """Remember one; "" forgets it."""
        with self._lock:
            if upload_id:
                self._kept[key] = [etag, upload_id]
            else:
                self._kept.pop(key, None)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".new")
            temporary.write_text(json.dumps(self._kept))
            temporary.replace(self._path)
            if not self._kept:
                self._path.unlink()


class _Measured(io.RawIOBase):
    """A body that is sent as it is read, with its CRC64NVME. botocore takes files only."""

    def __init__(self, stream: Any, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._stream = stream
        self._advance = advance
        self.crc = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As of any file; the end is b""."""
        from awscrt.checksums import crc64nvme

        data: bytes = self._stream.read(MIB if size < 0 else size)
        self.crc = crc64nvme(data, self.crc)
        self._advance(len(data))
        return data


class _Copier:
    """One import. Clients of boto3 may be used by several threads."""

    def __init__(
        self,
        source: Any,
        target: Any,
        origin: tuple[str, str],
        goal: tuple[str, str],
        uploads: _Uploads,
    ) -> None:
        self._source, self._target = source, target
        self._from, self._from_prefix = origin
        self._to, self._to_prefix = goal
        self._uploads = uploads
        self._progress = Progress(0)

    def check(self) -> None:
        """Raises Failed when there is no bucket to copy to."""
        from botocore.exceptions import ClientError

        try:
            self._target.head_bucket(Bucket=self._to)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise Failed(
                    f"there is no bucket {self._to}: 'cumulus bucket create {self._to}' makes it"
                ) from None
            raise

    def run(self, jobs: int) -> Imported:
        """Copy what is missing, `jobs` objects at a time."""
        done = Imported()
        total = sum(item["Size"] for item in list_keys(self._source, self._from, self._from_prefix))
        with Progress(total) as self._progress, ThreadPoolExecutor(jobs) as pool:
            running: dict[Future[None], Item] = {}
            for item in self._missing(done):
                running[pool.submit(self._copy, item)] = item
                if len(running) >= 2 * jobs:
                    _gather(running, done, all_of_them=False)
            _gather(running, done, all_of_them=True)
        return done

    def _missing(self, done: Imported) -> Iterator[Item]:
        """The source's objects that are not here as they are there."""
        here = list_keys(self._target, self._to, self._to_prefix)
        held = next(here, None)
        for item in list_keys(self._source, self._from, self._from_prefix):
            goal = self._goal(item).encode()
            while held is not None and held["Key"].encode() < goal:
                held = next(here, None)
            if held is not None and held["Key"].encode() == goal and _same(item, held):
                done.skipped += 1
                self._progress.advance(item["Size"])
            else:
                yield item

    def _goal(self, item: Item) -> str:
        return self._to_prefix + str(item["Key"]).removeprefix(self._from_prefix)

    # ------------------------------------------------------------------ one object
    def _copy(self, item: Item) -> None:
        from botocore.exceptions import BotoCoreError, HTTPClientError

        for attempt in itertools.count(1):
            try:
                self._progress.name(item["Key"])
                self._copy_once(item)
            except (HTTPClientError, BotoCoreError, OSError):
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    def _copy_once(self, item: Item) -> None:
        head = self._source.head_object(Bucket=self._from, Key=item["Key"], IfMatch=item["ETag"])
        keep = {name: head[name] for name in _HEADERS if head.get(name)}
        if head.get("TagCount"):
            tags = self._source.get_object_tagging(Bucket=self._from, Key=item["Key"])["TagSet"]
            keep["Tagging"] = urlencode([(tag["Key"], tag["Value"]) for tag in tags])
        parts = _parts_of(item)
        if parts or item["Size"] > PUT_MAX:
            self._copy_parts(item, self._part_size(item, parts), keep)
            return
        put = partial(self._target.put_object, Bucket=self._to, Key=self._goal(item), **keep)
        stored, etag = self._send(item, None, put)["ETag"], item["ETag"]
        if _MD5.fullmatch(stored) and _MD5.fullmatch(etag) and stored != etag:
            raise Failed(f"the ETag is {stored} here and {etag} there")

    def _part_size(self, item: Item, parts: int) -> int:
        if not parts:
            return PART
        first = self._source.head_object(Bucket=self._from, Key=item["Key"], PartNumber=1)
        if first.get("PartsCount") == parts:
            return int(first["ContentLength"])
        size: int = -(-item["Size"] // parts)  # a guess: clients take whole MiB
        return -(-size // MIB) * MIB

    def _copy_parts(self, item: Item, size: int, keep: dict[str, Any]) -> None:
        key, etag = self._goal(item), item["ETag"]
        upload_id = self._uploads.get(key, etag)
        sent = self._sent(key, upload_id) if upload_id else None
        if sent is None:
            made = self._target.create_multipart_upload(Bucket=self._to, Key=key, **keep)
            upload_id, sent = made["UploadId"], {}
            self._uploads.set(key, etag, upload_id)
        named = {"Bucket": self._to, "Key": key, "UploadId": upload_id}
        finished = []
        for number, start in enumerate(range(0, item["Size"], size), 1):
            end = min(start + size, item["Size"])
            part = sent.get(number)
            if part is not None and part["Size"] == end - start:
                self._progress.advance(end - start)
            else:
                upload = partial(self._target.upload_part, **named, PartNumber=number)
                part = self._send(item, (start, end), upload)
            finished.append({"PartNumber": number, "ETag": part["ETag"]})
        self._target.complete_multipart_upload(**named, MultipartUpload={"Parts": finished})
        self._uploads.set(key, etag, "")

    def _sent(self, key: str, upload_id: str) -> dict[int, Item] | None:
        """The parts that an earlier run sent; None if its upload is gone."""
        pages = self._target.get_paginator("list_parts").paginate(
            Bucket=self._to, Key=key, UploadId=upload_id
        )
        try:
            return {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}
        except self._target.exceptions.NoSuchUpload:
            return None

    def _send(
        self, item: Item, span: tuple[int, int] | None, send: Callable[..., Any]
    ) -> dict[str, Any]:
        """Read the object, or bytes of it, and send them. Raises Failed if others were stored."""
        asked = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}
        got = self._source.get_object(
            Bucket=self._from, Key=item["Key"], IfMatch=item["ETag"], **asked
        )
        size = item["Size"] if span is None else span[1] - span[0]
        body = _Measured(got["Body"], self._progress.advance)
        given = b"".join(iter(body.read, b"")) if size <= READ_WHOLE else body
        reply: dict[str, Any] = send(Body=given, ContentLength=size)
        kept = reply.get("ChecksumCRC64NVME")
        if kept is not None and kept != b64encode(body.crc.to_bytes(8, "big")).decode():
            raise Failed("what was stored is not what was read")
        return reply


def _gather(running: dict[Future[None], Item], done: Imported, *, all_of_them: bool) -> None:
    """Count what has ended; at least one, or everything."""
    if not running:
        return
    ended, _ = wait(running) if all_of_them else wait(running, return_when=FIRST_COMPLETED)
    for future in ended:
        item = running.pop(future)
        error = future.exception()
        if error is None:
            done.objects += 1
            done.bytes += item["Size"]
        elif isinstance(error, Exception):
            done.failed[item["Key"]] = _reason(error)
        else:
            raise error


def _reason(error: Exception) -> str:
    try:
        with s3_errors():
            raise error
    except (Failed, OSError) as failed:
        return str(failed)


def _parts_of(item: Item) -> int:
    """How many parts an object was uploaded in, 0 for one PUT."""
    match = _OF_PARTS.fullmatch(item["ETag"])
    return int(match.group(1)) if match else 0


def _same(there: Item, here: Item) -> bool:
    """Whether it is here already. ETags may be of another kind, or of other parts."""
    if there["Size"] != here["Size"]:
        return False
    return bool(there["ETag"] == here["ETag"] or here["LastModified"] >= there["LastModified"])
