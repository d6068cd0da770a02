"""Reed-Solomon over whole shards: cut, encode, and restore whatever was lost.

Pure: buffers in, buffers out; nothing is copied but a segment's ragged tail. See
docs/specs/segment.md for the matrix and the cutting.
"""

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Protocol

import numpy as np

from chain.net.transport import Buffer
from miner import galois, isal
from miner.galois import Bytes, Matrix
from miner.segments import Profile, shard_bytes


class NotEnoughShards(ValueError):
    """Fewer than k shards were given to restore from."""


class Kernel(Protocol):
    """What multiplies: ISA-L or numpy."""

    def combine(self, rows: Matrix, sources: Sequence[Bytes], outputs: Sequence[Bytes]) -> None:
        """outputs[r] = Σ_j rows[r][j] · sources[j], byte by byte."""
        ...


class NumpyKernel:
    """The portable kernel."""

    def combine(self, rows: Matrix, sources: Sequence[Bytes], outputs: Sequence[Bytes]) -> None:
        """See miner/galois.py combine."""
        galois.combine(rows, sources, outputs)


class ErasureCode:
    """One (k, m) code. Thread-safe."""

    def __init__(self, k: int, m: int, kernel: Kernel) -> None:
        self.k = k
        self.m = m
        self._kernel = kernel
        self._rows = galois.generator(k, m)
        # Decoding rows per (shards used, shards wanted); few patterns of loss are live at a time.
        self._decoding = lru_cache(maxsize=1024)(self._decoding_rows)

    def encode(
        self, shards: Sequence[Buffer], parity: Sequence[Buffer] | None = None
    ) -> list[Buffer]:
        """The m parity shards of k equal data shards, in `parity` (writable) if it is given."""
        assert len(shards) == self.k
        sources = [_array(shard) for shard in shards]
        size = len(sources[0])
        assert all(len(source) == size for source in sources)
        outputs: list[Buffer] = list(parity) if parity is not None else _buffers(self.m, size)
        assert len(outputs) == self.m
        if self.k == 1:
            for output in outputs:
                memoryview(output)[:] = memoryview(shards[0])
            return outputs
        arrays = [_array(output) for output in outputs]
        assert all(len(array) == size and array.flags.writeable for array in arrays)
        self._kernel.combine(self._rows[self.k :], sources, arrays)
        return outputs

    def reconstruct(
        self, available: Mapping[int, Buffer], wanted: Sequence[int], size: int
    ) -> dict[int, Buffer]:
        """Restore `wanted` shards, or the same byte range of them, from any k of the others.

        `available` maps shard index -> `size` bytes; data shards are preferred as they are cheapest
        to combine. Raises NotEnoughShards.
        """
        result: dict[int, Buffer] = {i: available[i] for i in wanted if i in available}
        lost = tuple(i for i in dict.fromkeys(wanted) if i not in available)
        assert all(0 <= i < self.k + self.m for i in (*wanted, *available))
        if not lost:
            return result
        if len(available) < self.k:
            raise NotEnoughShards(f"{len(available)} of {self.k} shards")
        used = tuple(sorted(available)[: self.k])
        assert all(len(available[i]) == size for i in used)
        if self.k == 1:
            return result | dict.fromkeys(lost, available[used[0]])
        outputs = _buffers(len(lost), size)
        self._kernel.combine(
            self._decoding(used, lost),
            [_array(available[i]) for i in used],
            [_array(output) for output in outputs],
        )
        return result | dict(zip(lost, outputs, strict=True))

    def _decoding_rows(self, used: tuple[int, ...], lost: tuple[int, ...]) -> Matrix:
        to_data = galois.inverse(tuple(self._rows[i] for i in used))
        return galois.product(tuple(self._rows[i] for i in lost), to_data)


@cache
def code_for(profile: Profile) -> ErasureCode:
    """The code of a profile on the fastest kernel of this machine."""
    return ErasureCode(profile.k, profile.m, isal.load() or NumpyKernel())


def cut(segment: Buffer, k: int) -> list[Buffer]:
    """The k data shards of a segment (at least one byte). Only ragged shards are copied."""
    view = memoryview(segment).cast("B")
    size = shard_bytes(len(view), k)
    shards: list[Buffer] = []
    for start in range(0, size * k, size):
        piece = view[start : start + size]
        if len(piece) < size:
            padded = bytearray(size)
            padded[: len(piece)] = piece
            shards.append(padded)
        else:
            shards.append(piece)
    return shards


def _array(buffer: Buffer) -> Bytes:
    return np.frombuffer(buffer, np.uint8)


def _buffers(count: int, size: int) -> list[Buffer]:
    # np.empty: every byte is about to be written, so zeroing it first would be a second pass.
    return [np.empty(size, np.uint8).data.cast("B") for _ in range(count)]
