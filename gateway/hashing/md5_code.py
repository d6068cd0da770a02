"""MD5 of several streams side by side, as LLVM IR: a value is a vector, a lane of it a stream's.

The compression function of RFC 1321, section 3.4, as in its reference code. What is not there:

- One stream alone is bound by latency: each of the 64 steps needs the one before. Lanes are free.
- Constants come by a pointer, as code that refers to nothing outside itself needs no linker.
- Words are loaded one by one: LLVM makes loads into lanes of them, and no optimiser has to run
  (those that would hoist the constants out of the loop make it slower).
"""

import math
import struct

from gateway.hashing.instructions import Instructions
from gateway.hashing.recipe import Recipe

_SINES = tuple(int(2**32 * abs(math.sin(i + 1))) for i in range(64))
_SHIFTS = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
# Which word of the block a step of each round takes: (a · step + b) mod 16.
_WORDS = ((1, 0), (5, 1), (3, 5), (7, 0))
# LLVM makes a rotation by 16 into a shuffle whose mask would lie outside the code, unless it does
# not know the number: it is read from behind the sines.
_HIDDEN = 16


def md5_code(lanes: int) -> str:
    """See Recipe.code."""
    code = _Lanes(lanes)
    states, data = code.lane_pointers(lanes)
    begin = {name: code.gather(states, word) for word, name in enumerate("abcd")}
    offset = code.begin_loop(code.type, begin)
    blocks = [code.at(pointer, "i8", offset) for pointer in data]
    after = _compress(code, [code.gather(blocks, word) for word in range(16)])
    for name, value in zip("abcd", after, strict=True):
        code.lines.append(f"  %{name}.next = add {code.type} %{name}, {value}")
    code.end_loop()
    for word, name in enumerate("abcd"):
        code.scatter(states, word, f"%{name}.next")
    return code.module([f"declare {code.type} {code.rotate}({', '.join([code.type] * 3)})"])


def _compress(code: "_Lanes", message: list[str]) -> tuple[str, str, str, str]:
    """The 64 steps over the block's 16 words, from %a, %b, %c, %d; what is to be added to them."""
    a, b, c, d = "%a", "%b", "%c", "%d"
    for step in range(64):
        times, plus = _WORDS[step // 16]
        # What is known early is added first, so that the next step waits for as little as can be.
        total = code.add(message[(times * step + plus) % 16], code.constant(step))
        total = code.add(a, total)
        for term in _mixed(code, step // 16, b, c, d):
            total = code.add(total, term)
        total = code.rotated(total, _SHIFTS[step // 16][step % 4])
        a, b, c, d = d, code.add(b, total), b, c
    return a, b, c, d


def _mixed(code: "_Lanes", turn: int, b: str, c: str, d: str) -> tuple[str, ...]:
    """F, G, H or I of the RFC as terms of a sum; b is known last."""
    if turn == 0:  # (b and c) or (not b and d)
        return (code.xor(d, code.both(b, code.xor(c, d))),)
    if turn == 1:  # (b and d) or (c and not d): no bit is in both, so `or` is a sum
        return code.both(c, code.inverse(d)), code.both(b, d)
    if turn == 2:
        return (code.xor(b, code.xor(c, d)),)
    return (code.xor(c, code.either(b, code.inverse(d))),)


class _Lanes(Instructions):
    """On vectors of 32-bit words."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.type = f"<{lanes} x i32>"
        self.rotate = f"@llvm.fshl.v{lanes}i32"
        self._lanes = lanes

    def gather(self, pointers: list[str], word: int) -> str:
        """A vector of one word (of any alignment) from behind each lane's pointer."""
        vector = "poison"
        for lane, pointer in enumerate(pointers):
            item = self.let(f"load i32, ptr {self.at(pointer, 'i32', word)}, align 1")
            vector = self.let(f"insertelement {self.type} {vector}, i32 {item}, i32 {lane}")
        return vector

    def scatter(self, pointers: list[str], word: int, vector: str) -> None:
        """The inverse of `gather`."""
        for lane, pointer in enumerate(pointers):
            item = self.let(f"extractelement {self.type} {vector}, i32 {lane}")
            self.lines.append(f"  store i32 {item}, ptr {self.at(pointer, 'i32', word)}, align 1")

    def constant(self, index: int) -> str:
        """The same constant in all lanes."""
        item = self.let(f"load i32, ptr {self.at('%constants', 'i32', index)}, align 1")
        first = self.let(f"insertelement {self.type} poison, i32 {item}, i32 0")
        zeros = f"<{self._lanes} x i32> zeroinitializer"
        return self.let(f"shufflevector {self.type} {first}, {self.type} poison, {zeros}")

    def rotated(self, value: str, bits: int) -> str:
        """To the left."""
        v = self.type
        if bits == _HIDDEN:
            by = self.constant(len(_SINES))  # as much to the left as to the right
            left = self.let(f"shl {v} {value}, {by}")
            return self.either(left, self.let(f"lshr {v} {value}, {by}"))
        return self.let(f"call {v} {self.rotate}({v} {value}, {v} {value}, {v} {self._all(bits)})")

    def add(self, one: str, other: str) -> str:
        """The sum modulo 2³²."""
        return self.let(f"add {self.type} {one}, {other}")

    def xor(self, one: str, other: str) -> str:
        """The exclusive or."""
        return self.let(f"xor {self.type} {one}, {other}")

    def both(self, one: str, other: str) -> str:
        """The and."""
        return self.let(f"and {self.type} {one}, {other}")

    def either(self, one: str, other: str) -> str:
        """The or."""
        return self.let(f"or {self.type} {one}, {other}")

    def inverse(self, value: str) -> str:
        """All bits turned."""
        return self.xor(value, self._all(-1))

    def _all(self, number: int) -> str:
        return f"<{', '.join([f'i32 {number}'] * self._lanes)}>"


# CPU s/GiB on Zen 4, all lanes used: one 1.35 (hashlib 1.44), four 0.40, eight 0.21.
MD5 = Recipe(
    code=md5_code,
    lanes=(1, 4, 8),
    initial=(0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476),
    constants=struct.pack("<65I", *_SINES, _HIDDEN),
    order="<",
)
