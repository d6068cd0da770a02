"""What differs between hashes that take blocks of 64 bytes, one after the other, into a state."""

from collections.abc import Callable
from typing import NamedTuple

BLOCK = 64


class Recipe(NamedTuple):
    """One hash."""

    code: Callable[[int], str]
    """LLVM IR for so many streams of `void hash(struct {uint32 *state; uint8 *data;} *lane,
    size_t blocks, uint8 *constants)`, which takes `blocks` >= 1 blocks of each into its state."""
    lanes: tuple[int, ...]
    """The numbers of streams that are worth a function."""
    initial: tuple[int, ...]
    """The state's words before the first block."""
    constants: bytes
    """What the code reads: it must refer to nothing outside itself (machine_code.py)."""
    order: str
    """`struct`'s sign for the order of bytes in words and in the length at the end."""
    needs: str = ""
    """A feature of the processor, by LLVM's name."""
