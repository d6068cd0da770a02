"""Messages in a byte stream: where one ends and the next begins. No I/O.

A message is a prefix (the number of frames, one byte; the length of each, u32 big-endian) and its
frames (docs/specs/wire.md, "Over a stream"). Of a frame that lies in the caller's shared memory, or
is room in it, only the place is in the stream.
"""

import struct
from collections.abc import Sequence

import numpy as np

from chain.net import wire
from chain.net.shared import Reference, Room
from chain.net.transport import Buffer

# A head, its payloads, and room for the reply's.
FRAMES_MAX = 2 + wire.PAYLOADS_MAX
TOTAL_MAX = wire.FRAME_MAX + wire.MESSAGE_MAX
# Read at once while no large frame is under way.
SCRATCH_BYTES = 64 << 10
# A frame that is this much short of complete gets memory of its own, and the rest of it is read
# straight to its place.
DIRECT_BYTES = 16 << 10

Frame = Buffer | Reference | Room
# Marks of a length: the frame lies in the caller's memory; the frame is room there.
_LENT, _ROOM = 1 << 31, 1 << 30
_PLACE = struct.Struct(">Q")

_ONE = struct.Struct(">BI")
_COUNTS = tuple(struct.Struct(f">B{count}I") for count in range(FRAMES_MAX + 1))


def prefix(frames: Sequence[Buffer]) -> bytes:
    """What stands before a message's frames."""
    if len(frames) == 1:
        return _ONE.pack(1, len(frames[0]))
    return _COUNTS[len(frames)].pack(len(frames), *map(len, frames))


def pack(frames: Sequence[Frame]) -> tuple[bytes, list[Buffer]]:
    """A message's prefix and what follows it; frames may be places in shared memory."""
    lengths: list[int] = []
    parts: list[Buffer] = []
    for frame in frames:
        if isinstance(frame, Reference | Room):
            lengths.append(frame.size | (_LENT if isinstance(frame, Reference) else _ROOM))
            parts.append(_PLACE.pack(frame.offset))
        else:
            lengths.append(len(frame))
            parts.append(frame)
    return _COUNTS[len(frames)].pack(len(frames), *lengths), parts


class Reader:
    """Takes a stream in whatever pieces it comes and gives messages.

    `room` is where the next bytes are to be written; `filled` says how many were. Bounded: at most
    one message beside the scratch, and no memory for bytes that were only announced is taken
    beyond the one frame under way.
    """

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0  # what of the scratch is not taken yet
        self._lengths: tuple[int, ...] = ()  # in the stream, of the message under way
        self._marked: tuple[int, ...] = ()  # as they were sent, if one of them is marked
        self._frames: list[Frame] = []  # those of it that are complete
        self._direct: memoryview | None = None  # the frame that is read to its own place
        self._direct_end = 0

    def room(self) -> memoryview:
        """Where to write next; never empty."""
        if self._direct is not None:
            return self._direct[self._direct_end :]
        return self._scratch[self._end :]

    def filled(self, count: int) -> list[list[Frame]]:
        """The messages that `count` more bytes complete. Raises MalformedFrame."""
        messages: list[list[Frame]] = []
        if self._direct is not None:
            self._direct_end += count
            if self._direct_end < len(self._direct):
                return messages
            self._complete(self._direct, messages)
            self._direct = None
        else:
            self._end += count
        while self._step(messages):
            pass
        self._pack()
        return messages

    def _step(self, messages: list[list[Frame]]) -> bool:
        """Take one prefix or frame from the scratch; False when it is not all there."""
        have = self._end - self._start
        if not self._lengths:
            if not have:
                return False
            count = self._scratch[self._start]
            if not 1 <= count <= FRAMES_MAX:
                raise wire.MalformedFrame(f"a message of {count} frames")
            form = _COUNTS[count]
            if have < form.size:
                return False
            lengths = form.unpack_from(self._scratch, self._start)[1:]
            if max(lengths) > wire.FRAME_MAX:
                self._marked = lengths
                lengths = _unmarked(lengths)
            elif sum(lengths) > TOTAL_MAX:
                raise wire.MalformedFrame(f"a message of {sum(lengths)} bytes")
            self._lengths = lengths
            self._start += form.size
            have -= form.size
        length = self._lengths[len(self._frames)]
        if length <= have:
            frame = bytes(self._scratch[self._start : self._start + length])
            self._start += length
            self._complete(frame, messages)
            return True
        if length - have >= DIRECT_BYTES or length > SCRATCH_BYTES // 2:
            # Not zeroed first, which is 0.05 s/GiB: whoever gets it gets it full.
            self._direct = np.empty(length, np.uint8).data
            self._direct[:have] = self._scratch[self._start : self._end]
            self._direct_end = have
            self._start = self._end = 0
        return False

    def _complete(self, frame: Buffer, messages: list[list[Frame]]) -> None:
        mark = self._marked[len(self._frames)] if self._marked else 0
        self._frames.append(_placed(frame, mark) if mark >= _ROOM else frame)
        if len(self._frames) == len(self._lengths):
            messages.append(self._frames)
            self._frames, self._lengths, self._marked = [], (), ()

    def _pack(self) -> None:
        """Make room behind what is left in the scratch."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            left = bytes(self._scratch[self._start : self._end])
            self._scratch[: len(left)] = left
            self._start, self._end = 0, len(left)


def _unmarked(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """What each frame takes of the stream. Raises MalformedFrame."""
    sizes = [length & ~(_LENT | _ROOM) for length in lengths]
    rooms = [at for at, length in enumerate(lengths) if length & _ROOM]
    if (
        max(sizes) > wire.FRAME_MAX
        or sum(sizes[:-1] if rooms else sizes) > TOTAL_MAX
        or lengths[0] >= _ROOM
        or rooms not in ([], [len(lengths) - 1])
        or any(length & _LENT for length in lengths[-1:] if rooms)
    ):
        raise wire.MalformedFrame(f"a message of {sum(sizes)} bytes, or misplaced marks")
    return tuple(_PLACE.size if length >= _ROOM else length for length in lengths)


def _placed(frame: Buffer, mark: int) -> Reference | Room:
    (offset,) = _PLACE.unpack(frame)
    size = mark & ~(_LENT | _ROOM)
    return Reference(offset, size) if mark & _LENT else Room(offset, size)
