"""A light S3 load generator: raw sockets, its own SigV4, processes of threads. Standard library.

What it costs itself is not counted: only the servers' processes are (benchmarks/processes.py).
"""

import hashlib
import hmac
import multiprocessing
import os
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Target:
    """A server and a key pair."""

    endpoint: str
    access: str
    secret: str
    bucket: str = "bench"


@dataclass(frozen=True)
class Job:
    """One measurement. `operation`: put, get, head, delete, list."""

    operation: str
    size: int = 0
    count: int = 0  # operations in all; 0: as many as `seconds` allow
    seconds: float = 3.0
    connections: int = 8
    signed: bool = True  # PUT: the payload's SHA-256 is signed
    prefix: str = "k"


@dataclass
class Result:
    """What the clients saw. Times in seconds, sorted."""

    operations: int = 0
    bytes: int = 0
    wall: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0  # seconds of the clients themselves

    def percentile(self, share: float) -> float:
        """A latency; 0 when nothing was done."""
        if not self.latencies:
            return 0.0
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))]


class Signer:
    """SigV4 in the Authorization header; the day's key is kept."""

    def __init__(self, target: Target, region: str = "us-east-1") -> None:
        self.target = target
        self.host = urlsplit(target.endpoint).netloc
        self.region = region
        self._day = ""
        self._key = b""

    def head(self, method: str, path: str, query: str, length: int, payload: str) -> bytes:
        """The request's head; `path` and `query` are canonical already."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")  # noqa: DTZ005, TID251, RUF100
        scope = f"{moment[:8]}/{self.region}/s3/aws4_request"
        names = "host;x-amz-content-sha256;x-amz-date"
        headers = f"host:{self.host}\nx-amz-content-sha256:{payload}\nx-amz-date:{moment}\n"
        canonical = f"{method}\n{path}\n{query}\n{headers}\n{names}\n{payload}"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        signature = hmac.digest(self._day_key(moment[:8]), text.encode(), "sha256").hex()
        target = f"{path}?{query}" if query else path
        return (
            f"{method} {target} HTTP/1.1\r\nhost: {self.host}\r\n"
            f"x-amz-content-sha256: {payload}\r\nx-amz-date: {moment}\r\n"
            f"authorization: AWS4-HMAC-SHA256 Credential={self.target.access}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}\r\n"
            f"content-length: {length}\r\n\r\n"
        ).encode()

    def _day_key(self, day: str) -> bytes:
        if day != self._day:
            key = f"AWS4{self.target.secret}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._day = key, day
        return self._key


class Connection:
    """One keep-alive connection, opened again when the server closed it."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._address = (parts.hostname or "", parts.port or 80)
        self._socket: socket.socket | None = None
        self._view = memoryview(bytearray(1 << 20))

    def ask(self, head: bytes, body: bytes, *, bodiless: bool) -> tuple[int, int]:
        """(status, bytes of body). Raises OSError."""
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=60)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if len(body) <= 65536:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
            status, size, close = self._reply(self._socket, bodiless=bodiless)
        except BaseException:
            self.close()
            raise
        if close:
            self.close()
        return status, size

    def close(self) -> None:
        """Close; the next ask opens again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _reply(self, link: socket.socket, *, bodiless: bool) -> tuple[int, int, bool]:
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += self._receive(link)
        head, _, rest = raw.partition(b"\r\n\r\n")
        status = int(head[9:12])
        fields = dict(
            line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line
        )
        close = fields.get(b"connection", b"").strip() == b"close" or head.startswith(b"HTTP/1.0")
        if bodiless or status in (204, 304):
            return status, 0, close
        if b"content-length" in fields:
            length, got = int(fields[b"content-length"]), len(rest)
            while got < length:
                got += len(self._receive(link))
            return status, length, close
        tail, got = rest, len(rest)
        while not tail.endswith(b"0\r\n\r\n"):  # chunked
            piece = self._receive(link)
            got, tail = got + len(piece), (tail + piece)[-16:]
        return status, got, close

    def _receive(self, link: socket.socket) -> bytes:
        size = link.recv_into(self._view)
        if size == 0:
            raise ConnectionError("closed by the server")
        return bytes(self._view[:size])


def make_bucket(target: Target) -> None:
    """PUT the bucket; one that is there already is fine. Raises SystemExit."""
    head = Signer(target).head("PUT", f"/{target.bucket}", "", 0, EMPTY)
    link = Connection(target.endpoint)
    status, _ = link.ask(head, b"", bodiless=False)
    link.close()
    if status not in (200, 409):
        raise SystemExit(f"{target.endpoint}: cannot make the bucket: {status}")


def request(target: Target, job: Job, key: str, signer: Signer, digest: str) -> tuple[bytes, bool]:
    """(head, whether the reply has no body) of one operation."""
    if job.operation == "list":
        query = f"list-type=2&max-keys=1000&prefix={job.prefix}"
        return signer.head("GET", f"/{target.bucket}", query, 0, EMPTY), False
    method = job.operation.upper()
    length, payload = (job.size, digest) if job.operation == "put" else (0, EMPTY)
    path = f"/{target.bucket}/{key}"
    return signer.head(method, path, "", length, payload), method in ("HEAD", "DELETE")


def run(target: Target, job: Job, processes: int = 2) -> Result:
    """Do a job with up to `processes` client processes; the sum of what they saw."""
    processes = min(processes, job.connections)
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.queues.Queue[Result] = context.Queue()
    begin = context.Event()
    workers = [
        context.Process(target=_worker, args=(target, job, number, processes, begin, answers))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    begin.set()
    total = Result()
    for _ in workers:
        part = answers.get()
        total.operations += part.operations
        total.bytes += part.bytes
        total.wall = max(total.wall, part.wall)
        total.latencies += part.latencies
        total.errors.update(part.errors)
        total.cpu += part.cpu
    for worker in workers:
        worker.join()
    total.latencies.sort()
    return total


def _worker(target, job, number, processes, begin, answers) -> None:  # type: ignore[no-untyped-def]
    threads = max(1, job.connections // processes)
    results = [Result() for _ in range(threads)]
    body = os.urandom(job.size) if job.operation == "put" else b""
    digest = hashlib.sha256(body).hexdigest() if job.signed else UNSIGNED
    share = job.count // (processes * threads) if job.count else 0
    begin.wait()
    before = time.process_time()
    started = time.perf_counter()

    def work(thread: int) -> None:
        signer, link, result = Signer(target), Connection(target.endpoint), results[thread]
        index, end = 0, time.perf_counter() + job.seconds
        while (index < share) if share else (time.perf_counter() < end):
            key = f"{job.prefix}/{number}-{thread}/{index:07}"
            index += 1
            head, bodiless = request(target, job, key, signer, digest)
            at = time.perf_counter()
            try:
                status, size = link.ask(head, body, bodiless=bodiless)
            except (OSError, ValueError) as error:
                result.errors[type(error).__name__] += 1
                continue
            if status >= 300:
                result.errors[str(status)] += 1
                continue
            result.latencies.append(time.perf_counter() - at)
            result.operations += 1
            result.bytes += job.size if job.operation == "put" else size
        link.close()

    crew = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for member in crew:
        member.start()
    for member in crew:
        member.join()
    total = Result(wall=time.perf_counter() - started, cpu=time.process_time() - before)
    for result in results:
        total.operations += result.operations
        total.bytes += result.bytes
        total.latencies += result.latencies
        total.errors.update(result.errors)
    answers.put(total)
