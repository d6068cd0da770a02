"""Arenas: what is taken, lent, let go and never lent again; and what no guest takes for one."""

import asyncio
import fcntl
import os
import sys
import threading
from pathlib import Path

import pytest

from chain.net import shared
from chain.net.shared import ARENA_MAX, PAGE, Arena, Guest, Reference, Room, Rooms
from chain.net.wire import MalformedFrame

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")

KIB, MIB = 1 << 10, 1 << 20


def arena(size: int = 8 * MIB, rooms: int = 4 * MIB, limit: int = 8 * MIB) -> Arena:
    found = Arena.create(size, rooms=rooms, limit=limit)
    assert found is not None
    return found


def held(of: Arena) -> int:
    """Bytes of memory behind it."""
    return os.fstat(of.fd).st_blocks * 512


def test_memory_is_there_before_it_is_touched_and_stays_for_the_next_until_trimmed() -> None:
    own = arena()
    memory = own.take(2 * MIB)
    assert memory is not None
    assert held(own) == 2 * MIB
    part = memory.data[5:10]
    del memory
    own.trim()
    assert held(own) == 2 * MIB  # somebody looks at a part of it
    del part
    again = [own.take(MIB) for _ in range(2)]  # in other sizes
    assert held(own) == 2 * MIB
    again.clear()
    own.trim()
    assert held(own) == 0


def test_what_nobody_has_goes_when_the_limit_would_be_passed() -> None:
    own = arena(limit=3 * MIB)
    taken = [own.take(MIB) for _ in range(3)]
    del taken[0], taken[1]  # two holes, too small for what follows
    large = own.take(2 * MIB)
    assert large is not None
    assert held(own) == 3 * MIB


def test_memory_that_is_there_goes_out_before_new_memory_comes() -> None:
    own = arena()
    first, second, third = own.take(MIB), own.take(2 * MIB), own.take(MIB)
    del second
    small = own.take(MIB)  # from the middle, though the end has room
    assert held(own) == 4 * MIB
    del third
    large = own.take(3 * MIB)  # what was let go, and one new
    assert held(own) == 5 * MIB
    del first, small, large


def test_no_more_is_given_back_than_others_need() -> None:
    own = arena(limit=4 * MIB)
    taken = [own.take(MIB) for _ in range(4)]
    del taken[0], taken[1]
    large = own.take(2 * MIB - PAGE)
    assert large is not None
    assert held(own) == 4 * MIB  # one page of the holes stayed
    taken.append(own.take(MIB))
    assert held(own) == 5 * MIB - PAGE  # all of it is in use


def test_an_arena_gives_no_more_than_it_has_and_all_of_it_again() -> None:
    own = arena()
    for _ in range(3):
        taken = [own.take(MIB) for _ in range(9)]
        assert taken.pop() is None
        starts = {own.start_of(memory) for memory in taken if memory is not None}
        assert starts == {n * MIB for n in range(8)}
        del taken[::2]
        taken.clear()
    whole = own.take(8 * MIB)  # the pieces became one again
    assert whole is not None


def test_memory_may_be_let_go_in_another_thread() -> None:
    own = arena(MIB)
    taken = [own.take(MIB)]
    letting = threading.Thread(target=taken.clear)
    letting.start()
    letting.join()
    assert own.take(MIB) is not None


def test_only_long_views_of_its_own_memory_are_sent_by_place() -> None:
    own, other = arena(), arena()
    first, second = own.take(MIB), own.take(MIB)
    strange = other.take(MIB)
    assert first is not None
    assert second is not None
    assert strange is not None
    view = second.data
    assert own.reference(view[3 : 3 + 100 * KIB]) == Reference(own.start_of(second) + 3, 100 * KIB)
    assert own.reference(view[100:1100]) is None
    assert own.reference(view[::2]) is None
    assert own.reference(strange.data) is None
    assert own.reference(memoryview(bytes(MIB))) is None
    assert own.reference(bytes(MIB)) is None


def test_a_guest_copies_what_is_sent_and_fills_what_is_lent() -> None:
    own = arena()
    guest = Guest(os.dup(own.fd), own.size)
    memory = own.take(MIB)
    assert memory is not None
    start, view = own.start_of(memory), memory.data
    view[:4] = b"sent"
    copy = guest.copy(Reference(start, MIB))
    view[:4] = b"late"
    assert bytes(copy[:4]) == b"sent"
    room = guest.room(Room(start, MIB))
    room[8:12] = b"fill"
    assert bytes(view[8:12]) == b"fill"
    assert guest.reference(room[8:12]) == Reference(start + 8, 4)
    assert guest.reference(copy) is None
    guest.close()
    room[8:12] = b"last"  # a handler may still be at it
    assert bytes(view[8:12]) == b"last"


def test_a_view_is_the_memory_itself_and_nobody_writes_through_it() -> None:
    own = arena()
    guest = Guest(os.dup(own.fd), own.size)
    memory = own.take(MIB)
    assert memory is not None
    view = guest.view(Reference(own.start_of(memory) + 5, 100))
    memory.data[5:9] = b"late"
    assert bytes(view[:4]) == b"late"
    with pytest.raises(TypeError):
        view[:1] = b"x"


@pytest.mark.parametrize("offset", [8 * MIB - PAGE + 1, 8 * MIB, 1 << 63])
def test_a_place_beyond_the_memory_is_malformed(offset: int) -> None:
    own = arena()
    guest = Guest(os.dup(own.fd), own.size)
    with pytest.raises(MalformedFrame):
        guest.copy(Reference(offset, PAGE))
    with pytest.raises(MalformedFrame):
        guest.room(Room(offset, PAGE))


def test_what_is_no_sealed_memory_of_that_size_is_refused(tmp_path: Path) -> None:
    own = arena()
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(loose, MIB)
    grows = os.memfd_create("grows", os.MFD_ALLOW_SEALING)
    os.ftruncate(grows, MIB)
    fcntl.fcntl(grows, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    (tmp_path / "file").write_bytes(bytes(MIB))
    plain = os.open(tmp_path / "file", os.O_RDWR)
    ends = os.pipe()
    cases = [(own.fd, MIB), (own.fd, 0), (own.fd, ARENA_MAX + PAGE), (own.fd, 8 * MIB + 1)]
    cases += [(loose, MIB), (grows, MIB), (plain, MIB), (ends[0], MIB)]
    for fd, size in cases:
        with pytest.raises(ValueError, match=r"arena|memory|cut"):
            Guest(fd, size)
    for fd in (loose, grows, plain, *ends):
        os.close(fd)


async def test_a_room_is_lent_again_only_when_nobody_looks_at_it() -> None:
    rooms = Rooms(arena())
    loan = rooms.lend("a", MIB - 2 * PAGE)
    assert loan is not None
    place = loan.room
    (view,) = loan.frames([Reference(place.offset, 10)])
    loan.answered()
    second = rooms.lend("a", MIB - 2 * PAGE)
    assert second is not None
    places = {place, second.room}
    assert len(places) == 2
    second.answered()
    del view
    again = [rooms.lend("a", MIB - 2 * PAGE) for _ in range(2)]
    assert {loan.room for loan in again if loan} == places
    assert rooms.used == 2 * MIB


async def test_rooms_stay_within_their_budget_and_are_kept_for_their_peer() -> None:
    rooms = Rooms(arena(rooms=2 * MIB))
    first, second = rooms.lend("a", MIB - 2 * PAGE), rooms.lend("b", MIB - 2 * PAGE)
    assert first is not None
    assert second is not None
    assert rooms.lend("c", MIB) is None
    places = first.room, second.room
    first.answered()
    second.answered()
    back = rooms.lend("a", MIB - 2 * PAGE)
    assert back is not None
    assert back.room == places[0]
    taken = rooms.lend("c", MIB - 2 * PAGE)  # another's, rather than none
    assert taken is not None
    assert taken.room == places[1]
    taken.answered()
    other = rooms.lend("c", MIB // 2)  # of another size: in place of it
    assert other is not None
    assert rooms.used <= 2 * MIB


async def test_a_room_that_was_never_answered_is_never_lent_again() -> None:
    own = arena(2 * MIB, rooms=2 * MIB)
    rooms = Rooms(own)
    loan = rooms.lend("a", MIB - 2 * PAGE)
    assert loan is not None
    lost = loan.room
    loan.lost()
    del loan
    assert rooms.used == 0
    assert held(own) == 0
    places = set()
    for _ in range(3):
        following = rooms.lend("a", MIB - 2 * PAGE)
        assert following is not None
        places.add(following.room)
        following.answered()
        rooms.forget("a")
    assert lost not in places


async def test_a_reply_lies_in_its_room_or_is_malformed() -> None:
    rooms = Rooms(arena())
    one, other = rooms.lend("a", MIB), rooms.lend("a", MIB)
    assert one is not None
    assert other is not None
    for place in (
        Reference(other.room.offset, 10),
        Reference(one.room.offset, one.room.size + 1),
        Reference(0 if one.room.offset else one.room.size, 1),
    ):
        with pytest.raises(MalformedFrame):
            one.frames([b"head", place])


async def test_rooms_that_nobody_needs_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "IDLE_SECONDS", 0.02)
    own = arena()
    rooms = Rooms(own)
    loan = rooms.lend("a", MIB)
    assert loan is not None
    (view,) = loan.frames([Reference(loan.room.offset, 10)])
    loan.answered()
    await asyncio.sleep(0.1)
    assert rooms.used == held(own) > MIB  # looked at
    del view
    async with asyncio.timeout(5):
        while rooms.used:  # noqa: ASYNC110 - a timer tells nobody
            await asyncio.sleep(0.01)
    assert held(own) == 0
