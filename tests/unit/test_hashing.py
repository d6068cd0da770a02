"""Hashes in lanes: what hashlib says, whatever is hashed beside it."""

import hashlib
import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.digests import digests_of
from gateway.hashing.blocks import RECIPES, Hash, Piece
from gateway.hashing.machine_code import Unavailable
from gateway.hashing.side_by_side import InLine, Line, SideBySide, Stream, compiled_hashes
from gateway.hashing.whole import Waiting, Whole
from gateway.model import Algorithm

llvm = pytest.importorskip("llvmlite.binding", reason="only where code is generated")


@cache
def compiled() -> Mapping[str, Hash]:
    return compiled_hashes()


@pytest.fixture(scope="module", params=list(RECIPES))
def hashed(request: pytest.FixtureRequest) -> Hash:
    if request.param not in compiled():
        pytest.skip(f"{request.param} takes instructions that this processor has not")
    return compiled()[request.param]


@pytest.fixture(scope="module")
def md5() -> Hash:
    return compiled()["MD5"]


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def judge(data: bytes, hashed: Hash | None = None) -> bytes:
    name = "SHA256" if hashed and hashed.recipe is RECIPES["SHA256"] else "MD5"
    return hashlib.new(name, data).digest()


def streams_in_line(executor: ThreadPoolExecutor, hashed: Hash, count: int) -> list[InLine]:
    line = Line(hashed, executor)
    return [InLine(line, lambda: None) for _ in range(count)]


# ------------------------------------------------------------------ functions
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 17])
def test_every_lane_hashes_its_own_stream(hashed: Hash, count: int) -> None:
    rng = random.Random(count)
    for length in (0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 5000):
        streams = [rng.randbytes(length + lane % 2) for lane in range(count)]
        assert hashed.whole(streams) == [judge(stream, hashed) for stream in streams]


LENGTHS = st.one_of(
    st.sampled_from([0, 1, 55, 56, 63, 64, 65, 127, 128, 129]), st.integers(0, 1000)
)


@given(
    st.lists(st.lists(LENGTHS, max_size=6), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
@settings(max_examples=80, deadline=None)
def test_any_split_of_any_number_of_streams(splits: list[list[int]], rng: random.Random) -> None:
    """As the thread does it, but with a random choice of who goes on and how far."""
    hashed = compiled()[rng.choice(sorted(compiled()))]
    states = [hashed.begin() for _ in splits]
    waiting = [[rng.randbytes(length) for length in lengths] for lengths in splits]
    expected = [judge(b"".join(pieces), hashed) for pieces in waiting]
    running: list[Piece | None] = [None] * len(splits)
    while True:
        for i, state in enumerate(states):
            while not (running[i] and running[i].blocks) and waiting[i]:  # type: ignore[union-attr]
                running[i] = Piece(hashed, state, waiting[i].pop(0))
        left = [piece for piece in running if piece and piece.blocks]
        if not left:
            break
        count = rng.randint(1, min(len(left), hashed.widest))
        hashed.advance(rng.sample(left, count), rng.randint(1, 8))
    assert [hashed.digest(state) for state in states] == expected


@pytest.mark.parametrize(
    ("triple", "cpu"),
    [
        ("x86_64-unknown-linux-gnu", "x86-64"),
        ("x86_64-unknown-linux-gnu", "haswell"),
        ("x86_64-unknown-linux-gnu", "znver4"),
        ("aarch64-unknown-linux-gnu", "generic"),
        ("aarch64-unknown-linux-gnu", "neoverse-v1"),
    ],
)
def test_the_code_needs_no_linker_on_any_processor(triple: str, cpu: str) -> None:
    from gateway.hashing.compiler import compiled

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for recipe in RECIPES.values():
        for lanes in recipe.lanes if cpu == "znver4" or not recipe.needs else ():
            assert 500 < len(compiled(recipe.code(lanes), cpu, triple=triple)) < 20000


# ------------------------------------------------------------------ the line
def test_pieces_of_many_streams_are_hashed_each_in_order(
    executor: ThreadPoolExecutor, hashed: Hash
) -> None:
    rng = random.Random(7)
    streams = streams_in_line(executor, hashed, 13)
    bodies = [rng.randbytes(rng.randint(0, 2_000_000)) for _ in streams]
    done = threading.Semaphore(0)
    pushed, at = 0, [0] * len(streams)
    while open_ := [i for i, body in enumerate(bodies) if at[i] < len(body)]:
        i = rng.choice(open_)
        size = rng.choice([1, 64, 100, 70_000, 1 << 20])
        streams[i].push(
            bodies[i][at[i] : at[i] + size], done.release, hurry=at[i] + size >= len(bodies[i])
        )
        at[i] += size
        pushed += 1
    for _ in range(pushed):
        assert done.acquire(timeout=30)
    expected = [judge(body, hashed) for body in bodies]
    assert [stream.digest() for stream in streams] == expected


def test_closed_streams_leave_the_others_alone_and_all_buffers_are_let_go(
    executor: ThreadPoolExecutor, md5: Hash
) -> None:
    streams = streams_in_line(executor, md5, 6)
    buffers = [bytearray(random.Random(i).randbytes(2 << 20)) for i in range(6)]
    done = threading.Semaphore(0)
    for last in (False, True):
        for i, (stream, buffer) in enumerate(zip(streams, buffers, strict=True)):
            stream.push(memoryview(buffer), done.release if i % 2 else lambda: None, hurry=last)
    for stream in streams[::2]:
        stream.close()
    for _ in range(6):
        assert done.acquire(timeout=30)
    for stream, buffer in list(zip(streams, buffers, strict=True))[1::2]:
        assert stream.digest() == judge(bytes(buffer) * 2)
    executor.submit(lambda: None).result(30)
    give_up = time.monotonic() + 20
    while any(is_looked_at(buffer) for buffer in buffers):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_stream_that_can_still_fill_a_buffer_waits_for_those_that_have_none(
    executor: ThreadPoolExecutor, md5: Hash
) -> None:
    one, other = streams_in_line(executor, md5, 2)
    done = threading.Semaphore(0)
    one.push(b"a", done.release, hurry=False)
    assert not done.acquire(timeout=0.05)
    other.push(b"b", done.release, hurry=False)  # all have something
    assert all(done.acquire(timeout=20) for _ in range(2))
    one.push(b"c", done.release, hurry=False)
    assert not done.acquire(timeout=0.05)
    one.push(b"d", done.release, hurry=False)  # it has two: there is no use in waiting longer
    assert done.acquire(timeout=20)
    one.push(b"e", done.release, hurry=True)  # its end
    assert all(done.acquire(timeout=20) for _ in range(2))
    one.close()
    other.push(b"f", done.release, hurry=False)  # alone
    assert done.acquire(timeout=20)
    assert (one.digest(), other.digest()) == (judge(b"acde"), judge(b"bf"))


def is_looked_at(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return True
    return False


# ------------------------------------------------------------------ with and without functions
def test_two_streams_at_once_are_asked_for_before_anything_is_compiled(
    executor: ThreadPoolExecutor, md5: Hash
) -> None:
    asked = threading.Semaphore(0)

    def compile_hashes() -> dict[str, Hash]:
        asked.release()
        return {"MD5": md5}

    hashing = SideBySide(executor, compile_hashes)
    for _ in range(3):  # one after the other
        assert digest_of(hashing.begin(Algorithm.MD5), b"alone") == judge(b"alone")
    assert not asked.acquire(timeout=0.05)
    both = [hashing.begin(Algorithm.MD5), hashing.begin(Algorithm.MD5)]
    assert asked.acquire(timeout=20)
    give_up = time.monotonic() + 20
    while not hashing.ready:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    both.append(hashing.begin(Algorithm.MD5))
    assert isinstance(both[-1], InLine)
    assert {digest_of(stream, b"not alone") for stream in both} == {judge(b"not alone")}
    assert not asked.acquire(timeout=0.01)


def test_where_nothing_can_be_compiled_each_stream_is_hashed_by_itself(
    executor: ThreadPoolExecutor,
) -> None:
    tried = threading.Event()

    def compile_hashes() -> dict[str, Hash]:
        tried.set()
        raise Unavailable("no LLVM here")

    hashing = SideBySide(executor, compile_hashes)
    streams = [hashing.begin(Algorithm.MD5) for _ in range(3)]
    assert tried.wait(20)
    streams.append(hashing.begin(Algorithm.MD5))
    assert {digest_of(stream, b"x" * 100) for stream in streams} == {judge(b"x" * 100)}


def test_a_child_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Unavailable):
        compiled_hashes()


def digest_of(stream: Stream, data: bytes) -> bytes:
    done = threading.Event()
    stream.push(data, done.set, hurry=True)
    assert done.wait(20)
    stream.close()
    return stream.digest()


# ------------------------------------------------------------------ small bodies
def test_small_bodies_are_hashed_with_those_that_wait_when_one_is_asked_for(hashed: Hash) -> None:
    waiting = Waiting(hashed)
    bodies = [bytearray(bytes([i]) * (100 * i)) for i in (1, 2)]
    first, second = [Whole(waiting, memoryview(body)) for body in bodies]
    assert [whole.value for whole in (first, second)] == [None, None]
    assert all(is_looked_at(body) for body in bodies)
    assert first.digest() == judge(bytes(bodies[0]), hashed)
    assert [second.value] == [judge(bytes(bodies[1]), hashed)]  # beside it
    assert not any(is_looked_at(body) for body in bodies)


def test_small_bodies_wait_no_longer_when_all_lanes_are_taken_or_they_are_given_up(
    hashed: Hash,
) -> None:
    waiting = Waiting(hashed)
    given_up = bytearray(b"x" * 1000)
    Whole(waiting, memoryview(given_up)).forget()
    assert not is_looked_at(given_up)
    wholes = [Whole(waiting, bytes([i])) for i in range(hashed.widest + 1)]
    assert [whole.value for whole in wholes] == [
        *(judge(bytes([i]), hashed) for i in range(hashed.widest)),
        None,
    ]
    for whole in wholes:
        whole.forget()


def test_digests_of_small_bodies_are_the_same_with_and_without_functions(
    executor: ThreadPoolExecutor,
) -> None:
    asked = threading.Event()

    def compile_hashes() -> Mapping[str, Hash]:
        asked.set()
        return compiled()

    body, algorithms = b"small" * 1000, frozenset(Algorithm)
    expected = digests_of(body, algorithms)
    hashing = SideBySide(executor, compile_hashes)
    one, other = (hashing.later(body, algorithms) for _ in range(2))
    assert asked.wait(20)
    give_up = time.monotonic() + 20
    while not hashing.ready:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    third = hashing.later(body, algorithms)
    assert one.digests() == other.digests() == third.digests() == expected
    for later in (one, other, third):
        later.close()
