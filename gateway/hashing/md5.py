"""MD5 of many streams: states, partial blocks and padding around the compiled functions."""

import ctypes
import struct
from collections.abc import Mapping, Sequence

from chain.net.shared import address_of
from chain.net.transport import Buffer
from gateway.hashing.machine_code import Function
from gateway.hashing.md5_code import BLOCK, STATE, constants

# CPU s/GiB on Zen 4, all lanes used: one 1.35 (hashlib 1.44), four 0.40, eight 0.21.
LANES = (1, 4, 8)
_State = ctypes.c_uint32 * 4


class Md5State:
    """What MD5 knows of a stream so far."""

    __slots__ = ("address", "length", "tail", "words")

    def __init__(self) -> None:
        self.words = _State.from_buffer_copy(STATE)
        self.address = ctypes.addressof(self.words)
        self.length = 0
        self.tail = b""  # less than a block that has not been hashed


class Piece:
    """A piece of one stream: its whole blocks, of which `blocks` from `address` on are not hashed.

    Making it takes the bytes around them into the state, so pieces are made in order, each when
    those before are hashed.
    """

    __slots__ = ("_data", "address", "blocks", "state")

    def __init__(self, md5: "Md5", state: Md5State, data: Buffer) -> None:
        view = memoryview(data)
        state.length += len(view)
        if state.tail:
            missing = BLOCK - len(state.tail)
            state.tail += view[:missing]
            view = view[missing:]
            if len(state.tail) == BLOCK:
                md5.hash_blocks(state, state.tail)
                state.tail = b""
        self.state = state
        self.blocks = len(view) // BLOCK
        if rest := view[self.blocks * BLOCK :]:
            state.tail += rest
        self.address = address_of(view) if self.blocks else 0
        self._data = view  # keeps the memory


class Md5:
    """The functions. Any thread may call them, for different states."""

    def __init__(self, functions: Mapping[int, Function]) -> None:
        """`functions` by their lanes."""
        self._functions = functions
        self._constants = ctypes.create_string_buffer(constants())
        self._table = ctypes.addressof(self._constants)

    @property
    def widest(self) -> int:
        """As many streams at once as the widest function has lanes."""
        return max(self._functions)

    def advance(self, pieces: Sequence[Piece], most: int) -> None:
        """Hash up to `most` blocks of each, as many of each; up to `widest` pieces with blocks."""
        width = min(lanes for lanes in self._functions if lanes >= len(pieces))
        blocks = min(most, *(piece.blocks for piece in pieces))
        spare = [_State() for _ in range(width - len(pieces))]
        pointers = [pointer for piece in pieces for pointer in (piece.state.address, piece.address)]
        for state in spare:
            pointers += [ctypes.addressof(state), pieces[0].address]
        self._functions[width]((ctypes.c_void_p * len(pointers))(*pointers), blocks, self._table)
        for piece in pieces:
            piece.address += blocks * BLOCK
            piece.blocks -= blocks

    def hash_blocks(self, state: Md5State, data: bytes) -> None:
        """Whole blocks into one state."""
        lanes = (ctypes.c_void_p * 2)(state.address, address_of(data))
        self._functions[1](lanes, len(data) // BLOCK, self._table)

    def digest(self, state: Md5State) -> bytes:
        """The end of a stream: padded to whole blocks, its length in bits at the very end."""
        zeros = bytes(-(len(state.tail) + 9) % BLOCK)
        self.hash_blocks(state, state.tail + b"\x80" + zeros + struct.pack("<Q", 8 * state.length))
        return struct.pack("<4I", *state.words)

    def whole(self, streams: Sequence[Buffer]) -> list[bytes]:
        """Digests of streams that are there in one piece, side by side."""
        pieces = [Piece(self, Md5State(), stream) for stream in streams]
        left = [piece for piece in pieces if piece.blocks]
        while left:
            self.advance(left[: self.widest], left[0].blocks)
            left = [piece for piece in left if piece.blocks]
        return [self.digest(piece.state) for piece in pieces]
