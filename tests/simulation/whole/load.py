"""Clients: each works through what its seed draws, on keys of its own and on shared ones."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any, TypeVar

from chain.net.transport import Buffer
from gateway import errors
from gateway.model import (
    Attributes,
    Bucket,
    CompletedPart,
    ObjectVersion,
    Upload,
    WriteCondition,
)
from gateway.objects import ObjectService
from gateway.reading import DataDamaged
from tests.simulation.whole.gateways import Gateway, Unanswered, Worker
from tests.simulation.whole.model import ABSENT, Attempt, Content
from tests.simulation.whole.trace import Trace

T = TypeVar("T")
# (smallest, largest, weight): inline, one segment without a pipeline, with one, several segments.
SIZES = ((0, 256, 3), (257, 5_000, 8), (5_001, 60_000, 3), (263_000, 330_000, 0.5))
LARGE = (1_048_577, 2_300_000)
PART_MIN = 5 << 20
PIECE = 65_536
# Seconds between two operations of a client: bursts, and pauses in which faults come and go.
THINKS = (0.0, 0.001, 0.05, 1.0, 20.0, 90.0)
# So much of what clients do is done by several at once, at the same key.
RUSH_SHARE, RUSH_SECONDS = 0.35, 15.0
_NAME = "body"


class Vanished(Exception):
    """The client closed its connection in the middle of a body."""


class Client:
    """One client of a gateway; talks to whichever worker of it it likes."""

    def __init__(self, number: int, seed: int, gateway: Gateway, trace: Trace) -> None:
        self.name = f"client{number}"
        self._random = Random(f"{self.name} {seed}")
        self._gateway = gateway
        self._trace = trace
        self._model = gateway.model
        self._clock = trace.clock
        self._uploads: list[Upload] = []
        self._worker: Worker
        self._bucket: Bucket
        self._key = ""
        # what one client in ten does once: a body of several segments, or of several parts
        self._large = self._random.random() < 0.1

    async def run(self, operations: int) -> None:
        """Do so many operations, one after the other."""
        kinds: dict[Callable[[], Awaitable[str]], float] = {
            self.put: 9, self.get: 7, self.delete: 3, self.copy: 4, self.multipart: 1.5,
            self.create_once: 1, self.vanish: 0.7, self.list: 0.5,
        }  # fmt: skip
        for _ in range(operations):
            await self._choose_place()
            (kind,) = self._random.choices(list(kinds), list(kinds.values()))
            self._worker = self._random.choice(self._gateway.workers)
            try:
                outcome = await kind()
            except DataDamaged:
                outcome = "DAMAGED"
                self._model.wrong.append(f"{self._place}: stored bytes fail their seal")
            except Exception as error:  # noqa: BLE001 - a client reports whatever is not in S3's words
                outcome = f"FAILED {error!r}"
                self._model.wrong.append(f"{self.name} {kind.__name__} {self._place}: {error!r}")
            self._trace.note(
                f"{self.name} {kind.__name__} {self._worker.name} {self._place} {outcome}"
            )

    async def _choose_place(self) -> None:
        """A key of one's own after a while, or one of two at which all meet at the same moment."""
        if self._random.random() < RUSH_SHARE:
            now = self._clock.monotonic()
            meeting = int(now // RUSH_SECONDS) + 1
            await self._clock.sleep(meeting * RUSH_SECONDS - now)
            self._bucket = self._gateway.buckets[0]
            self._key = f"shared/{self._random.choice([meeting % 2, 0, 1])}"
            return
        await self._clock.sleep(self._random.choice(THINKS) * self._random.random())
        self._bucket = self._random.choice(self._gateway.buckets)
        self._key = self._draw_key()

    def _draw_key(self) -> str:
        own = self._random.random() < 0.7
        return f"{self.name if own else 'shared'}/{self._random.randint(0, 2)}"

    @property
    def _place(self) -> str:
        return f"{self._bucket.name}/{self._key}"

    # ------------------------------------------------------------ operations
    async def put(self) -> str:
        """Store a body; one in four refusals is tried once more."""
        number, data = self._draw_body()
        for attempt in range(2):
            outcome = await self._write(
                number, lambda objects: self._put(objects, number, _pieces(data))
            )
            if outcome != "SlowDown" or attempt or self._random.random() > 0.25:
                break
            await self._clock.sleep(5.0)
        return f"#{number} {len(data)} B {outcome}"

    async def create_once(self) -> str:
        """Store a body unless the key is taken."""
        number, data = self._draw_body()
        state = self._model.key(self._bucket.name, self._key)
        was_free = state.may_hold() == {ABSENT}
        only = WriteCondition(if_none_match="*")
        outcome = await self._write(
            number, lambda objects: self._put(objects, number, _pieces(data), only)
        )
        if outcome == "PreconditionFailed" and was_free and state.may_hold() == {ABSENT}:
            self._model.wrong.append(f"{self._place}: refused as taken, and nothing is there")
        return f"#{number} {outcome}"

    async def vanish(self) -> str:
        """Begin a body and go away."""
        number, data = self._draw_body(large=True)

        async def broken() -> AsyncIterator[Buffer]:
            yield data[: len(data) * 2 // 3]
            raise Vanished

        return await self._write(number, lambda objects: self._put(objects, number, broken()))

    async def delete(self) -> str:
        """Remove the key."""
        return await self._write(ABSENT, lambda objects: objects.delete(self._bucket, self._key))

    async def get(self) -> str:
        """Read the key, whole or in part."""
        found: list[Content] = []

        async def read(objects: ObjectService) -> str:
            version = objects.head(self._bucket, self._key)
            number = self._see(version)
            found.append(number)
            start = self._random.randint(0, version.size)
            end = self._random.choice([version.size, self._random.randint(start, version.size)])
            pieces = [bytes(piece) async for piece in objects.read(version, start, end)]
            if b"".join(pieces) != self._model.bodies[number][start:end]:
                self._model.wrong.append(f"{self._place}: wrong bytes of #{number}")
            return f"#{number} [{start}, {end})"

        try:
            return await self._worker.request(read)
        except Unanswered:
            return "unanswered"
        except errors.NoSuchKey:
            if not found:
                self._model.found(self._bucket.name, self._key, ABSENT)
            return "NoSuchKey"
        except errors.SlowDown:
            return f"#{found[0] if found else ''} SlowDown"

    async def copy(self) -> str:
        """Store another key's content under this one."""
        source, bucket = self._draw_key(), self._random.choice(self._gateway.buckets)
        if self._key.startswith("shared/") and self._random.random() < 0.7:
            source, bucket = f"shared/{self._random.randint(0, 1)}", self._gateway.buckets[0]
        try:
            version = await self._worker.request(_at_once(lambda o: o.head(bucket, source)))
        except (errors.NoSuchKey, Unanswered) as error:
            return f"from {bucket.name}/{source}: {type(error).__name__}"
        number = number_of(version)
        outcome = await self._write(
            number, lambda objects: objects.copy(version, self._bucket, self._key)
        )
        return f"from {bucket.name}/{source} #{number} {outcome}"

    async def multipart(self) -> str:
        """An upload in parts; completed, aborted, or left behind."""
        bodies = [self._draw_body()[1]]
        if self._take_large():
            bodies.insert(0, self._random.randbytes(PART_MIN))
        number = self._model.body(b"".join(bodies))
        try:
            upload = await self._worker.request(
                lambda objects: objects.create_upload(self._bucket, self._key, _attributes(number))
            )
            parts = [
                await self._worker.request(
                    lambda objects, n=n, body=body: objects.put_part(  # type: ignore[misc]
                        upload, n, _pieces(body), length=len(body)
                    )
                )
                for n, body in enumerate(bodies, 1)
            ]
        except (Unanswered, errors.SlowDown, errors.ServiceUnavailable) as error:
            return f"upload {type(error).__name__}"
        named = [CompletedPart(part.number, part.etag) for part in parts]
        choice = self._random.random()
        if choice < 0.15:
            return "upload left"
        if choice < 0.3:
            return f"abort {await self._ask(lambda objects: objects.abort_upload(upload))}"
        return await self._write(
            number, lambda objects: objects.complete_upload(upload, named), tries=2
        )

    async def list(self) -> str:
        """List a bucket: keys that are certainly there, and none that certainly are not."""

        def look(objects: ObjectService) -> int:
            listing = objects.list_objects(self._bucket)
            listed = {version.key for version in listing.objects}
            for (bucket, key), state in self._model.keys.items():
                may = state.may_hold()
                if bucket == self._bucket.name and (
                    (key in listed and may == {ABSENT}) or (key not in listed and ABSENT not in may)
                ):
                    self._model.wrong.append(f"{bucket}/{key}: the listing is wrong")
            return len(listed)

        try:
            return f"{await self._worker.request(_at_once(look))} keys"
        except Unanswered:
            return "unanswered"

    # ------------------------------------------------------------ how
    async def _write(
        self, content: Content, work: Callable[[ObjectService], Awaitable[Any]], tries: int = 1
    ) -> str:
        """Do one write and tell the model; asked again where nobody answered, if `tries`."""
        attempt = self._model.begin(self._bucket.name, self._key, content)
        outcome = await self._ask(work)
        for _ in range(tries - 1):
            if outcome != "unanswered":
                break
            await self._clock.sleep(10.0)
            self._worker = self._random.choice(self._gateway.workers)
            again = await self._ask(work)
            outcome = again if again == "ok" else "unanswered"
        self._conclude(attempt, outcome)
        return outcome

    def _conclude(self, attempt: Attempt, outcome: str) -> None:
        now = self._clock.monotonic()
        if outcome == "ok":
            attempt.acknowledged(now)
        elif outcome == "unanswered":
            attempt.unanswered(now)
        else:
            attempt.refused()

    async def _ask(self, work: Callable[[ObjectService], Awaitable[Any]]) -> str:
        try:
            await self._worker.request(work)
        except (Unanswered, errors.ServiceUnavailable):
            return "unanswered"
        except (
            errors.SlowDown, errors.NoSuchKey, errors.NoSuchUpload,
            errors.PreconditionFailed, Vanished,
        ) as error:  # fmt: skip
            return type(error).__name__
        return "ok"

    async def _put(
        self,
        objects: ObjectService,
        number: int,
        body: AsyncIterator[Buffer],
        condition: WriteCondition | None = None,
    ) -> ObjectVersion:
        return await objects.put(
            self._bucket, self._key, body, _attributes(number),
            condition=condition or WriteCondition(),
        )  # fmt: skip

    def _see(self, version: ObjectVersion) -> int:
        number = number_of(version)
        self._model.found(self._bucket.name, self._key, number)
        if version.size != len(self._model.bodies[number]):
            self._model.wrong.append(f"{self._place}: #{number} has {version.size} bytes")
        return number

    def _draw_body(self, *, large: bool = False) -> tuple[int, bytes]:
        if large or self._take_large():
            size = self._random.randint(*LARGE)
        else:
            ((low, high, _),) = self._random.choices(SIZES, [weight for *_, weight in SIZES])
            size = self._random.randint(low, high)
        data = self._random.randbytes(size)
        return self._model.body(data), data

    def _take_large(self) -> bool:
        large, self._large = self._large, False
        return large


def _attributes(number: int) -> Attributes:
    return Attributes(metadata={_NAME: str(number)})


def number_of(version: ObjectVersion) -> int:
    return int(version.attributes.metadata[_NAME])


async def _pieces(data: bytes) -> AsyncIterator[Buffer]:
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]
        await asyncio.sleep(0.0005)


def _at_once(work: Callable[[ObjectService], T]) -> Callable[[ObjectService], Awaitable[T]]:
    async def done(objects: ObjectService) -> T:
        return work(objects)

    return done
