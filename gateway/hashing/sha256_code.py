"""SHA-256 of several streams side by side, as LLVM IR with the x86 SHA extensions.

FIPS 180-4, section 6.2. An instruction does two rounds and takes four cycles, in which another can
begin. One stream has none, as each needs the one before; so those of several streams alternate.
"""

import struct

from gateway.hashing.instructions import Instructions
from gateway.hashing.recipe import Recipe

_PRIMES = [n for n in range(2, 312) if all(n % divisor for divisor in range(2, n))]
_ROUND = struct.pack("<64I", *(int(p ** (1 / 3) % 1 * 2**32) for p in _PRIMES))
_SWAP = bytes(byte ^ 3 for byte in range(16))  # the places from which bytes of words come
_V = "<4 x i32>"
_BYTES = "<16 x i8>"
_DECLARATIONS = (
    f"declare {_V} @llvm.x86.sha256rnds2({_V}, {_V}, {_V})",
    f"declare {_V} @llvm.x86.sha256msg1({_V}, {_V})",
    f"declare {_V} @llvm.x86.sha256msg2({_V}, {_V})",
    f"declare {_BYTES} @llvm.x86.ssse3.pshuf.b.128({_BYTES}, {_BYTES})",
)


def sha256_code(lanes: int) -> str:
    """See Recipe.code."""
    code = _Vectors()
    states, data = code.lane_pointers(lanes)
    begin: dict[str, str] = {}
    for lane, state in enumerate(states):  # as the instructions want it: f e b a, h g d c
        abcd, efgh = code.load(state, 0), code.load(state, 1)
        begin[f"abef{lane}"] = code.pick(abcd, efgh, 5, 4, 1, 0)
        begin[f"cdgh{lane}"] = code.pick(abcd, efgh, 7, 6, 3, 2)
    offset = code.begin_loop(_V, begin)
    blocks = [code.at(pointer, "i8", offset) for pointer in data]
    for name, value in _compress(code, blocks).items():
        code.lines.append(f"  %{name}.next = add {_V} %{name}, {value}")
    code.end_loop()
    for lane, state in enumerate(states):
        abef, cdgh = f"%abef{lane}.next", f"%cdgh{lane}.next"
        code.store(code.pick(abef, cdgh, 3, 2, 7, 6), state, 0)
        code.store(code.pick(abef, cdgh, 1, 0, 5, 4), state, 1)
    return code.module(_DECLARATIONS)


def _compress(code: "_Vectors", blocks: list[str]) -> dict[str, str]:
    """64 rounds over each lane's block; what is to be added to the lanes' states."""
    messages = [[code.swapped(code.load(block, i)) for i in range(4)] for block in blocks]
    states = {name: f"%{name}" for lane in range(len(blocks)) for name in _names(lane)}
    for four in range(16):
        constant = code.load("%constants", four)
        for lane, words in enumerate(messages):
            if four >= 4:
                words.append(_next_words(code, *words[-4:]))
            abef, cdgh = _names(lane)
            now = code.add(words[four], constant)
            then = code.pick(now, now, 2, 3, 2, 3)
            states[cdgh] = code.call("sha256rnds2", states[cdgh], states[abef], now)
            states[abef] = code.call("sha256rnds2", states[abef], states[cdgh], then)
    return states


def _names(lane: int) -> tuple[str, str]:
    return f"abef{lane}", f"cdgh{lane}"


def _next_words(code: "_Vectors", w16: str, w12: str, w8: str, w4: str) -> str:
    """Four words of the message schedule from the sixteen before."""
    seven_before = code.pick(w8, w4, 1, 2, 3, 4)
    half = code.add(code.call("sha256msg1", w16, w12), seven_before)
    return code.call("sha256msg2", half, w4)


class _Vectors(Instructions):
    """On vectors of four words of one stream."""

    def load(self, pointer: str, index: int) -> str:
        """Four words (of any alignment)."""
        return self.let(f"load {_V}, ptr {self.at(pointer, _V, index)}, align 1")

    def store(self, value: str, pointer: str, index: int) -> None:
        """The inverse of `load`."""
        self.lines.append(f"  store {_V} {value}, ptr {self.at(pointer, _V, index)}, align 1")

    def swapped(self, words: str) -> str:
        """Big-endian words."""
        places = self.let(f"load {_BYTES}, ptr {self.at('%constants', 'i32', 64)}, align 1")
        given = self.let(f"bitcast {_V} {words} to {_BYTES}")
        turned = self.let(
            f"call {_BYTES} @llvm.x86.ssse3.pshuf.b.128({_BYTES} {given}, {_BYTES} {places})"
        )
        return self.let(f"bitcast {_BYTES} {turned} to {_V}")

    def pick(self, low: str, high: str, *places: int) -> str:
        """Words of two vectors: 0 to 3 are the first's."""
        mask = ", ".join(f"i32 {place}" for place in places)
        return self.let(f"shufflevector {_V} {low}, {_V} {high}, <4 x i32> <{mask}>")

    def add(self, one: str, other: str) -> str:
        """The sums modulo 2³²."""
        return self.let(f"add {_V} {one}, {other}")

    def call(self, name: str, *arguments: str) -> str:
        """An instruction of the extensions."""
        values = ", ".join(f"{_V} {argument}" for argument in arguments)
        return self.let(f"call {_V} @llvm.x86.{name}({values})")


# CPU s/GiB on Zen 4, all lanes used: one 0.60 (hashlib 0.62), two 0.31, three 0.26, four 0.28.
SHA256 = Recipe(
    code=sha256_code,
    lanes=(1, 2, 3),
    initial=tuple(int(p ** (1 / 2) % 1 * 2**32) for p in _PRIMES[:8]),
    constants=_ROUND + _SWAP,
    order=">",
    needs="sha",
)
