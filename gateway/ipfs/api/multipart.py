"""multipart/form-data as Kubo's clients send it: files, directories and symlinks by their paths.

A part's file name is a path, percent-encoded (a space may be `+`); its field name may carry
attributes: `file?mode=0644&mtime=1700000000&mtime-nsecs=5`. A directory's type is
application/x-directory, a symlink's application/symlink, its body the target.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from chain.net.transport import Buffer
from gateway.ipfs.api.errors import BadCall
from gateway.ipfs.api.paths import DEPTH_MAX, check_name
from gateway.ipfs.codecs.importer import Metadata

HEADER_BYTES_MAX = 16 << 10
HEADERS_MAX = 16
PARTS_MAX = 200_000
PATH_BYTES_MAX = 4096
TARGET_BYTES_MAX = 4096


class PartKind(Enum):
    """What a part is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part. `path`: the names that lead to it; () for a file without a name."""

    path: tuple[str, ...]
    kind: PartKind
    metadata: Metadata


# A part's head, then its bytes, then None.
Event = Part | bytes | None


async def parts(
    content_type: str, body: AsyncIterator[Buffer] | None
) -> AsyncGenerator[Event, None]:
    """The parts of a body, each: its head, its bytes, None. Raises BadCall."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or body is None:
        raise BadCall("a multipart/form-data body is expected")
    events = _Events()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": events.begin,
                "on_header_field": events.header_field,
                "on_header_value": events.header_value,
                "on_header_end": events.header_end,
                "on_headers_finished": events.head,
                "on_part_data": events.data,
                "on_part_end": events.end,
                "on_end": events.finish,
            },
            max_header_count=HEADERS_MAX,
            max_header_size=HEADER_BYTES_MAX,
        )
        async for data in body:
            parser.write(bytes(data))
            for event in events.take():
                yield event
        parser.finalize()
    except FormParserError as error:
        raise BadCall(f"the multipart body is malformed: {error}") from None
    if not events.is_finished:
        raise BadCall("the multipart body is cut off")


async def one_file(
    content_type: str, body: AsyncIterator[Buffer] | None
) -> AsyncGenerator[bytes, None]:
    """The bytes of the first part that is a file; what follows is not read. Raises BadCall."""
    inside = False
    async with aclosing(parts(content_type, body)) as events:
        async for event in events:
            if isinstance(event, Part):
                inside = event.kind is PartKind.FILE
            elif event is None and inside:
                return
            elif event is not None and inside:
                yield event
    raise BadCall('argument "data" is required')


async def files(
    content_type: str, body: AsyncIterator[Buffer] | None, limit: int
) -> AsyncGenerator[bytes, None]:
    """Each part that is a file, whole. Raises BadCall for one of more than `limit` bytes."""
    held: bytearray | None = None
    async with aclosing(parts(content_type, body)) as events:
        async for event in events:
            if isinstance(event, Part):
                held = bytearray() if event.kind is PartKind.FILE else None
            elif held is None:
                continue
            elif event is None:
                yield bytes(held)
                held = None
            else:
                held += event
                if len(held) > limit:
                    raise BadCall(f"a part is larger than {limit} bytes")


class _Events:
    """The parser's callbacks as a queue; it is emptied after each piece of the body."""

    def __init__(self) -> None:
        self._queue: list[Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._count = 0
        self.is_finished = False

    def take(self) -> list[Event]:
        """What came since the last call."""
        taken, self._queue = self._queue, []
        return taken

    def begin(self) -> None:
        """A part begins."""
        self._count += 1
        if self._count > PARTS_MAX:
            raise BadCall(f"more than {PARTS_MAX} parts")
        self._headers = {}

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """A header is complete."""
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def head(self) -> None:
        """All headers of a part are in."""
        self._queue.append(parse_head(self._headers))

    def data(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part's body."""
        if end > start:
            self._queue.append(data[start:end])

    def end(self) -> None:
        """A part is complete."""
        self._queue.append(None)

    def finish(self) -> None:
        """The last boundary is in."""
        self.is_finished = True


def parse_head(headers: dict[bytes, bytes]) -> Part:
    """A part by its headers (lower-case names). Raises BadCall."""
    _, disposition = parse_options_header(headers.get(b"content-disposition", b""))
    kind, _ = parse_options_header(headers.get(b"content-type", b""))
    _, _, attributes = disposition.get(b"name", b"").partition(b"?")
    path = parse_path(disposition.get(b"filename", b""))
    if kind == b"application/x-directory":
        return Part(path, PartKind.DIRECTORY, parse_metadata(attributes))
    symlink = kind == b"application/symlink"
    part = PartKind.SYMLINK if symlink else PartKind.FILE
    return Part(path, part, parse_metadata(attributes))


def parse_path(raw: bytes) -> tuple[str, ...]:
    """A file name as names that lead to it. Raises BadCall."""
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise BadCall("a file name is not UTF-8") from None
    names = tuple(name for name in text.split("/") if name not in ("", "."))
    if len(text) > PATH_BYTES_MAX or len(names) > DEPTH_MAX:
        raise BadCall("a file name is too long")
    for name in names:
        check_name(name)
    return names


def parse_metadata(attributes: bytes) -> Metadata:
    """`mode=0644&mtime=SECONDS&mtime-nsecs=N` as attributes. Raises BadCall."""
    try:
        pairs = dict(parse_qsl(attributes.decode("ascii"), max_num_fields=16))
        mode = int(pairs["mode"], 8) if pairs.get("mode") else None
        seconds = int(pairs["mtime"]) if pairs.get("mtime") else None
        nanoseconds = int(pairs.get("mtime-nsecs") or 0)
    except ValueError:
        raise BadCall("mode, mtime or mtime-nsecs is malformed") from None
    return metadata(mode, seconds, nanoseconds)


def metadata(mode: int | None, seconds: int | None, nanoseconds: int) -> Metadata:
    """Checked attributes. Raises BadCall."""
    if mode is not None and not 0 <= mode < 1 << 32:
        raise BadCall("a mode is an octal number")
    if seconds is not None and not 0 <= seconds < 1 << 62:
        raise BadCall("an mtime before 1970 is not kept here")
    if not 0 <= nanoseconds < 10**9:
        raise BadCall("mtime-nsecs is less than a second")
    bits = None if mode is None else mode & 0o7777
    return Metadata(bits, None if seconds is None else (seconds, nanoseconds))
