"""Erasure code: GB of data per CPU second, both kernels, encode and worst-case decode.

python benchmarks/erasure.py
"""

import os
import sys
import time
from collections.abc import Callable

from miner import isal
from miner.erasure import ErasureCode, Kernel, NumpyKernel, cut
from miner.segments import PROFILES

SEGMENT = 8 << 20


def rate(work: Callable[[], object], size: int) -> float:
    """GB/s of CPU time, the best of three runs of 0.1 s."""
    work()
    best = 0.0
    for _ in range(3):
        turns, start = 0, time.process_time()
        while time.process_time() - start < 0.1:
            work()
            turns += 1
        best = max(best, turns * size / (time.process_time() - start) / 1e9)
    return best


def main() -> int:
    kernels: dict[str, Kernel] = {"numpy": NumpyKernel()}
    if (found := isal.load()) is not None:
        kernels["isal"] = found
    for name, kernel in sorted(kernels.items()):
        for profile in PROFILES.values():
            code = ErasureCode(profile.k, profile.m, kernel)
            size = SEGMENT // profile.k
            data = cut(os.urandom(size * profile.k), profile.k)
            parity = code.encode(data)
            whole = dict(enumerate([*data, *parity]))
            lost = list(range(min(profile.k, profile.m)))
            left = {i: shard for i, shard in whole.items() if i not in lost}

            def encode(
                code: ErasureCode = code, data: object = data, parity: object = parity
            ) -> object:
                return code.encode(data, parity)  # type: ignore[arg-type]

            def decode(
                code: ErasureCode = code, left: object = left, lost: object = lost, size: int = size
            ) -> object:
                return code.reconstruct(left, lost, size)  # type: ignore[arg-type]

            print(
                f"{name:6s} {profile.name:9s} {profile.k:2d}+{profile.m}: "
                f"encode {rate(encode, SEGMENT):6.2f} GB/s, "
                f"decode {len(lost)} lost {rate(decode, SEGMENT):6.2f} GB/s"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
