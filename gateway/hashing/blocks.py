"""Streams of any length, in any pieces, around functions that take whole blocks."""

import ctypes
import itertools
import struct
from collections.abc import Mapping, Sequence

from chain.net.shared import address_of
from chain.net.transport import Buffer
from gateway.hashing.machine_code import Function
from gateway.hashing.md5_code import MD5
from gateway.hashing.recipe import BLOCK, Recipe
from gateway.hashing.sha256_code import SHA256

RECIPES: Mapping[str, Recipe] = {"MD5": MD5, "SHA256": SHA256}  # by S3's names


class State:
    """What a hash knows of a stream so far."""

    __slots__ = ("address", "length", "tail", "words")

    def __init__(self, recipe: Recipe) -> None:
        self.words = (ctypes.c_uint32 * len(recipe.initial))(*recipe.initial)
        self.address = ctypes.addressof(self.words)
        self.length = 0
        self.tail = b""  # less than a block that has not been hashed


class Piece:
    """A piece of one stream: its whole blocks, of which `blocks` from `address` on are not hashed.

    Making it takes the bytes around them into the state, so pieces are made in order, each when
    those before are hashed.
    """

    __slots__ = ("_data", "address", "blocks", "state")

    def __init__(self, hashed: "Hash", state: State, data: Buffer) -> None:
        view = memoryview(data)
        state.length += len(view)
        if state.tail:
            missing = BLOCK - len(state.tail)
            state.tail += view[:missing]
            view = view[missing:]
            if len(state.tail) == BLOCK:
                hashed.take_blocks(state, state.tail)
                state.tail = b""
        self.state = state
        self.blocks = len(view) // BLOCK
        if rest := view[self.blocks * BLOCK :]:
            state.tail = bytes(rest)
        self.address = address_of(view) if self.blocks else 0
        self._data = view  # keeps the memory


class Hash:
    """The functions of one hash. Any thread may call them, for different states."""

    def __init__(self, name: str, functions: Mapping[int, Function]) -> None:
        """`name`: in RECIPES. `functions` by the number of their lanes, of which 1 is one."""
        self.recipe = RECIPES[name]
        self.widest = max(functions)
        self._functions = functions
        self._constants = ctypes.create_string_buffer(self.recipe.constants)
        self._table = ctypes.addressof(self._constants)

    def begin(self) -> State:
        """Of a new stream."""
        return State(self.recipe)

    def advance(self, pieces: Sequence[Piece], most: int) -> None:
        """Hash up to `most` blocks of each, as many of each; up to `widest` pieces with blocks."""
        width = min(lanes for lanes in self._functions if lanes >= len(pieces))
        blocks = min(most, *(piece.blocks for piece in pieces))
        lanes = [(piece.state.address, piece.address) for piece in pieces]
        lanes += lanes[:1] * (width - len(pieces))  # who has the same to do may do it twice
        pointers = (ctypes.c_void_p * (2 * width))(*itertools.chain(*lanes))
        self._functions[width](pointers, blocks, self._table)
        for piece in pieces:
            piece.address += blocks * BLOCK
            piece.blocks -= blocks

    def take_blocks(self, state: State, data: bytes) -> None:
        """Whole blocks into one state."""
        lane = (ctypes.c_void_p * 2)(state.address, address_of(data))
        self._functions[1](lane, len(data) // BLOCK, self._table)

    def digest(self, state: State) -> bytes:
        """The end of a stream: padded to whole blocks, its length in bits at the very end."""
        order = self.recipe.order
        zeros = bytes(-(len(state.tail) + 9) % BLOCK)
        end = struct.pack(f"{order}Q", 8 * state.length)
        self.take_blocks(state, state.tail + b"\x80" + zeros + end)
        return struct.pack(f"{order}{len(state.words)}I", *state.words)

    def whole(self, streams: Sequence[Buffer]) -> list[bytes]:
        """Digests of streams that are there in one piece, side by side."""
        pieces = [Piece(self, self.begin(), stream) for stream in streams]
        left = [piece for piece in pieces if piece.blocks]
        while left:
            self.advance(left[: self.widest], left[0].blocks)
            left = [piece for piece in left if piece.blocks]
        return [self.digest(piece.state) for piece in pieces]
