import ctypes
import hashlib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner import galois, isal
from miner.erasure import ErasureCode, Kernel, NotEnoughShards, NumpyKernel, code_for, cut
from miner.segments import PROFILES, shard_bytes

KERNELS: list[Kernel] = [NumpyKernel()]
if (_isal := isal.load()) is not None:
    KERNELS.append(_isal)


def generated(count: int, size: int) -> list[bytes]:
    return [hashlib.shake_128(b"vector %d" % i).digest(size) for i in range(count)]


# SHA-256 over the parity of shake_128("vector i"), 1,021 bytes a shard.
# Written down once, so that a changed matrix or polynomial cannot pass unseen.
VECTORS = {
    "cess": "8d2802e06cfd36d516090d9e8aef720a9a586fd7582893f8b6ab0acf515df421",
    "standard": "1025b749f8ddae6c8b52ba7f4b50991412f6700428c90fe66dfbc93425c6c1fe",
    "wide": "268bab0b8e78d5041408a7c5d453f55a134e31f9ca4a7bc35ded470414f314c8",
    "small": "91a78110c1bd7050abcd267e926eb3e0e23873705c5ed1dfb91dd500a43ff668",
    "mirror": "b791458b19b4df35c7a5097b310c19acf9548b6b27dc8b14bca31035bbc1d2ab",
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_parity_is_the_recorded_vector_on_every_kernel(kernel: Kernel, name: str) -> None:
    profile = PROFILES[name]
    parity = ErasureCode(profile.k, profile.m, kernel).encode(generated(profile.k, 1021))
    assert hashlib.sha256(b"".join(map(bytes, parity))).hexdigest() == VECTORS[name]


def test_parity_is_the_sum_that_the_specification_writes() -> None:
    shards = generated(4, 9)
    parity = code_for(PROFILES["small"]).encode(shards)
    for p in range(2):
        for byte in range(9):
            expected = 0
            for j in range(4):
                expected ^= galois.multiply(galois.invert((4 + p) ^ j), shards[j][byte])
            assert parity[p][byte] == expected


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_pattern_of_losses_or_a_sample_of_them_is_restored(kernel: Kernel, name: str) -> None:
    profile = PROFILES[name]
    code = ErasureCode(profile.k, profile.m, kernel)
    data = generated(profile.k, 37)
    whole = [*data, *map(bytes, code.encode(data))]
    patterns = list(combinations(range(profile.n), profile.m))
    for lost in patterns[:: max(1, len(patterns) // 60)]:
        available = {i: whole[i] for i in range(profile.n) if i not in lost}
        restored = code.reconstruct(available, lost, 37)
        assert {i: bytes(restored[i]) for i in lost} == {i: whole[i] for i in lost}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_m_losses_of_any_segment_are_restored(data: st.DataObject) -> None:
    profile = PROFILES[data.draw(st.sampled_from(sorted(PROFILES)))]
    segment = data.draw(st.binary(min_size=1, max_size=400))
    code = code_for(profile)
    shards = cut(segment, profile.k)
    whole = [*shards, *code.encode(shards)]
    lost = data.draw(st.sets(st.integers(0, profile.n - 1), max_size=profile.m))
    available = {i: shard for i, shard in enumerate(whole) if i not in lost}
    size = shard_bytes(len(segment), profile.k)
    restored = code.reconstruct(available, range(profile.k), size)
    assert b"".join(bytes(restored[i]) for i in range(profile.k))[: len(segment)] == segment


def test_a_byte_range_of_a_lost_shard_needs_only_that_range_of_others() -> None:
    code = code_for(PROFILES["standard"])
    data = generated(8, 1000)
    whole = [*data, *code.encode(data)]
    ranged = {i: whole[i][100:333] for i in range(1, 9)}
    assert bytes(code.reconstruct(ranged, [0], 233)[0]) == data[0][100:333]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 4095, 4096, 4097])
def test_cutting_fills_ragged_shards_with_zeros(length: int) -> None:
    segment = generated(1, length)[0]
    for k in (1, 4, 8, 16):
        shards = cut(segment, k)
        assert {len(shard) for shard in shards} == {shard_bytes(length, k)}
        joined = b"".join(map(bytes, shards))
        assert joined == segment + bytes(len(joined) - length)


def test_whole_shards_are_views_of_the_segment() -> None:
    segment = bytearray(4096)
    shards = cut(segment, 4)
    segment[0] = segment[4095] = 9
    assert shards[0][0] == shards[3][-1] == 9


@pytest.mark.parametrize("make", [bytes, bytearray, lambda raw: np.frombuffer(raw, np.uint8).data])
def test_encoding_writes_into_the_buffers_it_is_given(make: type[bytes]) -> None:
    code = code_for(PROFILES["small"])
    data = generated(4, 333)
    outputs = [bytearray(333), bytearray(333)]
    assert code.encode([make(shard) for shard in data], outputs)[0] is outputs[0]
    assert [bytes(o) for o in outputs] == [bytes(o) for o in code.encode(data)]


def test_too_few_shards_are_a_typed_error() -> None:
    with pytest.raises(NotEnoughShards):
        code_for(PROFILES["small"]).reconstruct({0: b"a", 5: b"b", 4: b"c"}, [1], 1)


def test_isal_generates_the_same_matrix() -> None:
    kernel = isal.load()
    if kernel is None:
        pytest.skip("no ISA-L on this platform")
    matrix = ctypes.create_string_buffer(12 * 8)
    kernel.library.gf_gen_cauchy1_matrix(matrix, 12, 8)
    assert matrix.raw == b"".join(map(bytes, galois.generator(8, 4)))
