"""Streams hashed side by side: one thread takes the pieces that wait, one of each stream.

Pieces wait for those of other streams as long as their own stream can go on without them; and while
the thread or the processors are busy: the busier they are, the more lanes are full.
docs/adr/217-md5-side-by-side.md.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Protocol

from chain.net.transport import Buffer
from gateway.digests import Digester, digester, digests_of
from gateway.hashing.blocks import RECIPES, Hash, Piece
from gateway.hashing.machine_code import Function, Unavailable, compile_in_child
from gateway.hashing.whole import Waiting, Whole
from gateway.lanes import Feed, Job, Updates
from gateway.model import Algorithm, Digests

# Blocks of each stream (256 KiB) before the thread looks who came meanwhile.
SLICE = 4096

log = logging.getLogger(__name__)

Compile = Callable[[], Mapping[str, Hash]]


def compiled_hashes() -> Mapping[str, Hash]:
    """Fit for this processor, by S3's names. Raises Unavailable."""
    return {
        name: Hash(name, {lanes: Function(code) for lanes, code in codes.items()})
        for name, codes in compile_in_child().items()
    }


class SideBySide:
    """The hashes of a process's streams. Compiles once two streams are there at once."""

    def __init__(self, executor: Executor, compile_hashes: Compile) -> None:
        self._executor = executor
        self._compile = compile_hashes
        self._lines: Mapping[str, Line] = {}
        self._waiting: Mapping[str, Waiting] = {}
        self._asked = False
        self._open: Counter[Algorithm] = Counter()

    @property
    def ready(self) -> bool:
        """Whether streams that begin now are hashed side by side."""
        return bool(self._lines)

    def begin(self, algorithm: Algorithm) -> "Stream":
        """A new stream; hashed by itself while there is no code for several."""
        ended = self._counted(algorithm)
        if line := self._lines.get(algorithm):
            return InLine(line, ended)
        return _Alone(self._executor, digester(algorithm), ended)

    def later(self, body: Buffer, algorithms: frozenset[Algorithm]) -> "Later":
        """Digests of a small body that are needed after a while. `close` it."""
        return Later(body, algorithms, self._waiting, self._counted(*algorithms & RECIPES.keys()))

    def _counted(self, *algorithms: Algorithm) -> Job:
        """One more of each, until the result is called. The second has code compiled."""
        self._open.update(algorithms)
        if not self._asked and any(self._open[algorithm] > 1 for algorithm in algorithms):
            self._asked = True
            threading.Thread(target=self._prepare, name="compile", daemon=True).start()
        return partial(self._open.subtract, algorithms)

    def _prepare(self) -> None:
        try:
            hashes = self._compile()
        except Unavailable as error:
            log.info("hashes of several streams are not computed side by side: %s", error)
        else:
            self._waiting = {name: Waiting(hashed) for name, hashed in hashes.items()}
            self._lines = {name: Line(hashed, self._executor) for name, hashed in hashes.items()}


class Later:
    """Digests of a small body: of hashes that can wait for others, when they are asked for."""

    def __init__(
        self,
        body: Buffer,
        algorithms: frozenset[Algorithm],
        waiting: Mapping[str, Waiting],
        ended: Job,
    ) -> None:
        """`waiting`: for each hash those that wait."""
        self._size = len(body)
        self._ended = ended
        self._whole = {a: Whole(waiting[a], body) for a in algorithms if a in waiting}
        self._known = digests_of(body, algorithms - self._whole.keys())

    def digests(self) -> Digests:
        """All of them."""
        found = {algorithm: whole.digest() for algorithm, whole in self._whole.items()}
        return Digests(self._size, {**self._known.values, **found})

    def close(self) -> None:
        """Whether they were asked for or not."""
        for whole in self._whole.values():
            whole.forget()
        self._ended()


class Stream(Feed, Protocol):
    """One stream. `close` it once."""

    def digest(self) -> bytes:
        """When all that was pushed is done. The end of the stream."""
        ...


class _Alone:
    """By hashlib."""

    def __init__(self, executor: Executor, running: Digester, ended: Job) -> None:
        self._updates = Updates(executor, [running.update])
        self._ended = ended
        self.push = self._updates.push
        self.digest = running.digest

    def close(self) -> None:
        """See Feed."""
        self._updates.close()
        self._ended()


class InLine:
    """Beside others."""

    def __init__(self, line: "Line", ended: Job) -> None:
        self.state = line.hash.begin()
        self.closed = False
        self._line = line
        self._ended = ended
        line.enter()

    def push(self, data: Buffer, done: Job, *, hurry: bool) -> None:
        """See Feed."""
        self._line.push(_Waiting(self, data, done, hurry=hurry))

    def close(self) -> None:
        """See Feed."""
        self._line.leave(self)
        self._ended()

    def digest(self) -> bytes:
        """See Stream."""
        return self._line.hash.digest(self.state)


class _Waiting:
    """What was pushed. Its bytes are looked at until `finish`, not longer."""

    __slots__ = ("_data", "_done", "hurry", "piece", "stream")

    def __init__(self, stream: InLine, data: Buffer, done: Job, *, hurry: bool) -> None:
        self.stream = stream
        self.hurry = hurry
        self.piece: Piece | None = None  # made when the stream's piece before is hashed
        self._data: Buffer = data
        self._done = done

    def begun(self, hashed: Hash) -> Piece:
        """What is left to hash."""
        if self.piece is None:
            self.piece = Piece(hashed, self.stream.state, self._data)
        return self.piece

    def finish(self) -> None:
        """All is hashed."""
        self._data, self.piece = b"", None
        self._done()


class Line:
    """Pieces in the order of their coming, and the thread that hashes them."""

    def __init__(self, hashed: Hash, executor: Executor) -> None:
        self.hash = hashed
        self._executor = executor
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._open = 0
        self._running = False

    def enter(self) -> None:
        """One more stream will push."""
        with self._lock:
            self._open += 1

    def push(self, piece: _Waiting) -> None:
        """Get in line."""
        with self._lock:
            self._waiting.append(piece)
            if self._running or not self._due():
                return
            self._running = True
        self._executor.submit(self._drain)

    def leave(self, stream: InLine) -> None:
        """Take a stream's pieces out of the line."""
        with self._lock:
            self._open -= 1
            stream.closed = True
            self._waiting = deque(piece for piece in self._waiting if piece.stream is not stream)

    def _drain(self) -> None:
        while together := self._first():
            pieces = [waiting.begun(self.hash) for waiting in together]
            if long := [piece for piece in pieces if piece.blocks]:
                self.hash.advance(long, SLICE)
            hashed = [waiting for waiting in together if not waiting.begun(self.hash).blocks]
            with self._lock:
                self._waiting.extendleft(
                    waiting
                    for waiting in reversed(together)
                    if waiting not in hashed and not waiting.stream.closed
                )
            del pieces, long
            for waiting in hashed:
                waiting.finish()

    def _due(self) -> bool:
        """Whether all streams have something to hash, or one has so much that it will soon stop.

        A stream that waits with one piece can still fill another; it will say when.
        """
        streams = {waiting.stream for waiting in self._waiting}
        return (
            len(streams) >= min(self._open, self.hash.widest)
            or len(streams) < len(self._waiting)
            or any(waiting.hurry for waiting in self._waiting)
        )

    def _first(self) -> list[_Waiting]:
        """The first of each stream, as many as there are lanes. None: the thread ends."""
        chosen: dict[InLine, _Waiting] = {}
        with self._lock:
            self._running = bool(self._waiting) and self._due()
            for waiting in self._waiting if self._running else ():
                if len(chosen) == self.hash.widest:
                    break
                chosen.setdefault(waiting.stream, waiting)
            for waiting in chosen.values():
                self._waiting.remove(waiting)
        return list(chosen.values())
