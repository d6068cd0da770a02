"""Access logs: lines of requests on their way from workers to objects in a target bucket.

A worker collects lines in memory, appends them to a file of its own every second, and begins a new
file every `roll` seconds. The jobs process makes objects of files that nobody writes any more and
removes them. Best effort, as on AWS: what a killed worker had not written, a second's lines, is
lost; what a killed jobs process had stored is stored again, under the same key.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chain.clock import Clock
from chain.net.transport import Buffer
from gateway.errors import NoSuchBucket, ServiceUnavailable, SlowDown, StoreError
from gateway.jobs import Step
from gateway.model import LOGGING, Attributes, Bucket
from gateway.records import JobRow

if TYPE_CHECKING:
    from gateway.objects import ObjectService

log = logging.getLogger(__name__)
ACCESS_DIR = "access"  # of the data directory
FLUSH_SECONDS = 1.0
LOOK_SECONDS = 5.0
# A file that was due to be followed by another is whole after that time.
GRACE_SECONDS = 5.0
LINES_MAX = 50_000  # in memory
FILE_MAX, FILES_MAX = 64 << 20, 512 << 20  # bytes on disk: of one file, of all


class Logging(msgspec.Struct, frozen=True, array_like=True):
    """A bucket's setting: where its lines go, and the document that it was read from."""

    target: str
    prefix: str
    partition: str = ""  # "": simple keys; else EventTime or DeliveryTime
    document: bytes = b""


@lru_cache(maxsize=256)
def kept_logging(stored: bytes) -> Logging:
    """A stored setting."""
    return msgspec.msgpack.decode(stored, type=Logging)


# ------------------------------------------------------------------ a worker's side
class AccessLog:
    """Takes lines, and writes them to files below `directory`."""

    def __init__(self, directory: Path, clock: Clock, roll: float, owner: str) -> None:
        """`owner` is in the names of this process's files: nobody else's are the same."""
        self._directory = directory
        self._clock = clock
        self._roll = roll
        self._owner = owner
        self._lines: list[bytes] = []
        self._dropped = 0

    def note(self, bucket: Bucket, time_ns: int, line: str) -> None:
        """Keep a line, without its end, of a request to `bucket`; never fails and never waits."""
        if len(self._lines) >= LINES_MAX:
            self._dropped += 1
            return
        head = f"{bucket.name} {bucket.id.hex()} {time_ns // 1_000_000_000}"
        self._lines.append(f"{head} {line}\n".encode("utf-8", "replace"))

    async def run(self) -> None:
        """Write what came, until cancelled; then what is left."""
        try:
            while True:
                await self._clock.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            self._write(self._lines)

    async def flush(self) -> None:
        """Write what came."""
        if self._lines:
            lines, self._lines = self._lines, []
            await asyncio.to_thread(self._write, lines)

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        slot = int(self._clock.now_ns() / 1e9 / self._roll)
        path = self._directory / f"{slot:012d}-{self._owner}.lines"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            if not path.exists() and _size(self._directory) > FILES_MAX:
                raise OSError("too many lines wait to be delivered")
            with path.open("ab") as file:
                if file.tell() > FILE_MAX:
                    raise OSError("the file is full")
                file.writelines(lines)
        except OSError as error:
            self._dropped += len(lines)
            log.warning("access log: %s; %d lines dropped so far", error, self._dropped)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


# ------------------------------------------------------------------ the jobs process's side
# (bucket, its id) -> day of the requests since 1970 -> lines
_Groups = dict[tuple[str, bytes], dict[int, list[bytes]]]


class AccessLogDelivery:
    """A job: objects of the files that are whole."""

    name = "access-logs"

    def __init__(
        self, objects: "ObjectService", directory: Path, clock: Clock, roll: float
    ) -> None:
        self._objects = objects
        self._directory = directory
        self._clock = clock
        self._roll = roll

    async def step(self, state: JobRow) -> Step:
        """The oldest whole file. Raises ServiceUnavailable, SlowDown: it is tried again."""
        del state
        due = sorted(path for path in self._directory.glob("*.lines") if self._is_whole(path))
        if not due:
            return Step(pause=min(LOOK_SECONDS, self._roll))
        path, lines = due[0], 0
        groups = await asyncio.to_thread(_grouped, path)
        for (bucket, bucket_id), days in groups.items():
            lines += await self._deliver(path, bucket, bucket_id, days)
        path.unlink()
        return Step(done=lines, ended=len(due) == 1)

    def _is_whole(self, path: Path) -> bool:
        return self._clock.now_ns() / 1e9 > self._end(path) + GRACE_SECONDS

    def _end(self, path: Path) -> float:
        """When its last line may have come, in seconds since 1970."""
        return (int(path.name.partition("-")[0]) + 1) * self._roll

    def _setting(self, bucket: str, bucket_id: bytes) -> Logging | None:
        try:
            found = self._objects.bucket(bucket)
        except NoSuchBucket:
            return None
        stored = self._objects.setting(found, LOGGING) if found.id == bucket_id else None
        return None if stored is None else kept_logging(stored)

    async def _deliver(
        self, path: Path, bucket: str, bucket_id: bytes, days: dict[int, list[bytes]]
    ) -> int:
        """Store a bucket's lines; how many were stored."""
        setting = self._setting(bucket, bucket_id)
        if setting is None:
            return 0
        if setting.partition != "EventTime":
            days = {0: [line for lines in days.values() for line in lines]}
        try:
            source, target = self._objects.bucket(bucket), self._objects.bucket(setting.target)
            if source.owner != target.owner:
                raise StoreError("The target bucket has another owner.")
            for day, lines in days.items():
                name = f"{path.name} {bucket_id.hex()} {day}"
                unique = hashlib.sha256(name.encode()).hexdigest()[:16].upper()
                key = log_key(setting, source, self._end(path), day, unique)
                body = _once(b"".join(lines))
                await self._objects.put(target, key, body, Attributes("text/plain"))
        except (ServiceUnavailable, SlowDown):
            raise
        except StoreError as error:
            log.warning("access log of %s: %s: lines dropped", bucket, error)
            return 0
        return sum(map(len, days.values()))


def log_key(setting: Logging, source: Bucket, end: float, day: int, unique: str) -> str:
    """The key of a log object: simple, or in partitions of account, region, bucket and day."""
    moment = datetime.fromtimestamp(end, UTC)
    if not setting.partition:
        return f"{setting.prefix}{moment:%Y-%m-%d-%H-%M-%S}-{unique}"
    if setting.partition == "EventTime":
        moment = datetime.fromtimestamp(day * 86_400, UTC)
    place = f"{source.owner.id}/{source.region or 'us-east-1'}/{source.name}"
    return f"{setting.prefix}{place}/{moment:%Y/%m/%d}/{moment:%Y-%m-%d-%H-%M-%S}-{unique}"


def _grouped(path: Path) -> _Groups:
    groups: _Groups = {}
    for bucket, bucket_id, seconds, line in _records(path.read_bytes()):
        days = groups.setdefault((bucket, bucket_id), {})
        days.setdefault(seconds // 86_400, []).append(line)
    return groups


def _records(data: bytes) -> Iterator[tuple[str, bytes, int, bytes]]:
    """(bucket, its id, seconds, line with its end); half a line at the end is left out."""
    for raw in data.splitlines(keepends=True):
        words = raw.split(b" ", 3)
        if len(words) == 4 and raw.endswith(b"\n") and words[2].isdigit():
            yield words[0].decode(), bytes.fromhex(words[1].decode()), int(words[2]), words[3]


async def _once(data: bytes) -> AsyncIterator[Buffer]:
    yield data
