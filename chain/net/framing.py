"""Messages in a byte stream: where one ends and the next begins. No I/O.

A message is a prefix (the number of frames, one byte; the length of each, u32 big-endian) and its
frames (docs/specs/wire.md, "Over a stream").
"""

import struct
from collections.abc import Sequence

import numpy as np

from chain.net import wire
from chain.net.transport import Buffer

FRAMES_MAX = 1 + wire.PAYLOADS_MAX
TOTAL_MAX = wire.FRAME_MAX + wire.MESSAGE_MAX
# Read at once while no large frame is under way.
SCRATCH_BYTES = 64 << 10
# A frame that is this much short of complete gets memory of its own, and the rest of it is read
# straight to its place.
DIRECT_BYTES = 16 << 10

_ONE = struct.Struct(">BI")
_COUNTS = tuple(struct.Struct(f">B{count}I") for count in range(FRAMES_MAX + 1))


def prefix(frames: Sequence[Buffer]) -> bytes:
    """What stands before a message's frames."""
    if len(frames) == 1:
        return _ONE.pack(1, len(frames[0]))
    return _COUNTS[len(frames)].pack(len(frames), *map(len, frames))


class Reader:
    """Takes a stream in whatever pieces it comes and gives messages.

    `room` is where the next bytes are to be written; `filled` says how many were. Bounded: at most
    one message beside the scratch, and no memory for bytes that were only announced is taken
    beyond the one frame under way.
    """

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0  # what of the scratch is not taken yet
        self._lengths: tuple[int, ...] = ()  # of the message under way
        self._frames: list[Buffer] = []  # those of it that are complete
        self._direct: memoryview | None = None  # the frame that is read to its own place
        self._direct_end = 0

    def room(self) -> memoryview:
        """Where to write next; never empty."""
        if self._direct is not None:
            return self._direct[self._direct_end :]
        return self._scratch[self._end :]

    def filled(self, count: int) -> list[list[Buffer]]:
        """The messages that `count` more bytes complete. Raises MalformedFrame."""
        messages: list[list[Buffer]] = []
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

    def _step(self, messages: list[list[Buffer]]) -> bool:
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
            if max(lengths) > wire.FRAME_MAX or sum(lengths) > TOTAL_MAX:
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

    def _complete(self, frame: Buffer, messages: list[list[Buffer]]) -> None:
        self._frames.append(frame)
        if len(self._frames) == len(self._lengths):
            messages.append(self._frames)
            self._frames, self._lengths = [], ()

    def _pack(self) -> None:
        """Make room behind what is left in the scratch."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start:
            left = bytes(self._scratch[self._start : self._end])
            self._scratch[: len(left)] = left
            self._start, self._end = 0, len(left)
