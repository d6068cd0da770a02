"""The process is killed at every step of a miner's store in turn, then power is lost there.

What was acknowledged reads, what was dropped stays away, and the store goes on.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest

from miner.store import layout, opening
from miner.store.compaction import Compactor
from miner.store.index import Index, IndexWriter
from miner.store.interface import StoreError, StoreFailed, StoreFull
from miner.store.journal import Journal, NewFragment, volume_name
from miner.store.opening import JournalOptions, close_journal, open_journal
from miner.store.session import Trust
from tests.conformance.fragment_store_suite import fragments
from tests.fault.volume_disk import Killed, Points, SimulatedDisk, index_points


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is simulated; only the small SESSION file is real."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def _some_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if volumes, which are small here, had fragments with padded records."""
    monkeypatch.setattr(layout, "LONG_BYTES", 16 * 1024)


PLEDGE = 1 << 30
VOLUME = 96 * 1024
PRESENT, ABSENT, EITHER = "present", "absent", "either"


def options(disk: SimulatedDisk, boot: str = "one") -> JournalOptions:
    return JournalOptions(disk, random.Random(3).randbytes, PLEDGE, VOLUME, boot)


def made(name: str, length: int) -> NewFragment:
    record, payload = fragments(name, length)[1][0]
    return NewFragment(record.key, record.id, record.encode(), bytes(payload), 1)


SIZES = [300, 9_000, 20_000, 40_000, 1, 12_288]
POOL = [made(str(n), 4 * size) for n, size in enumerate(SIZES * 4)]
BY_KEY = {each.key: each for each in POOL}


class Model:
    """What a store must hold: by key PRESENT, ABSENT, or EITHER where no answer came."""

    def __init__(self) -> None:
        self.states: dict[bytes, str] = {}

    @contextmanager
    def doing(self, puts: list[NewFragment], drops: list[NewFragment]) -> Iterator[None]:
        """A batch; known again when it was answered."""
        for each in [*puts, *drops]:
            self.states[each.key] = EITHER
        yield
        for each in puts:
            self.states[each.key] = PRESENT
        for each in drops:
            self.states[each.key] = ABSENT

    def check(self, journal: Journal) -> None:
        for key, state in self.states.items():
            place = journal.index.get(key)
            if state is EITHER:
                state = ABSENT if place is None else PRESENT
                self.states[key] = state
            assert (place is not None) == (state is PRESENT), (key.hex(), state)
            if place is not None:
                file = journal.volumes[place.volume].file
                assert file.read(place.size, place.payload) == BY_KEY[key].payload
        held = sum(state is PRESENT for state in self.states.values())
        assert journal.fragments == journal.index.count() == held


def work(journal: Journal, model: Model, batches: list[tuple[list[int], list[int]]]) -> None:
    compactor = Compactor(journal)
    for puts, drops in batches:
        batch = [POOL[n] for n in puts], [POOL[n] for n in drops]
        with model.doing(*batch):
            outcome = journal.commit(batch[0], [each.key for each in batch[1]], 5)
            assert outcome.errors == [None] * len(puts)
        journal.retire()
        while compactor.step(7):
            pass


# Small and large ones; dropped ones come back; whole volumes die; the rest is compacted.
BATCHES: list[tuple[list[int], list[int]]] = [
    ([0, 1, 2, 3], []),
    ([4, 5, 6, 7], [1]),
    ([8, 9], [3]),
    ([1, 10, 11], [2, 0]),
    ([12, 13, 14], [8]),
    ([15], [5, 6, 7]),
    ([3], [9, 4]),
    ([2, 5], [12, 13, 14, 10]),
    ([], [3, 1]),
    ([9], [11]),
]


def killed_at(point: int | None, directory: Path, disk: SimulatedDisk, model: Model) -> list[str]:
    """Run everything, or up to a point; the names of the steps that were reached."""
    points = disk.points = Points(point)
    with index_points(points):
        opened: list[Index] = []
        original = Index.__init__

        def noting(self: Index, where: Path) -> None:
            original(self, where)
            opened.append(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Index, "__init__", noting)
            try:
                journal, session = open_journal(directory / "index", options(disk))
                work(journal, model, BATCHES)
                model.check(journal)
                close_journal(journal, session)
            except Killed:
                for index in opened:
                    index.close()
    return points.names


def reopened(directory: Path, disk: SimulatedDisk, model: Model, boot: str = "one") -> None:
    """A start after the crash, some work, a clean stop, and a start from the volumes alone."""
    disk.points = Points()
    journal, session = open_journal(directory / "index", options(disk, boot))
    model.check(journal)
    work(journal, model, [([16, 17], [4]), ([18], [16])])
    model.check(journal)
    close_journal(journal, session)
    shutil.rmtree(directory / "index")
    journal, session = open_journal(directory / "index", options(disk, boot))
    model.check(journal)
    close_journal(journal, session)


def simulated(punches: bool) -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.punches = punches
    return disk


def all_points(tmp_path: Path, punches: bool) -> list[str]:
    disk, model = simulated(punches), Model()
    names = killed_at(None, tmp_path / "all", disk, model)
    for operation in ("create", "write", "sync", "remove", "index transaction"):
        assert any(name.startswith(operation) for name in names), operation
    assert any(name.startswith("punch") for name in names) == punches
    return names


@pytest.mark.parametrize("punches", [True, False])  # without, it is compacted instead
@pytest.mark.parametrize("ending", ["kill -9", "kill -9 and no index", "power loss"])
def test_a_store_that_ends_at_any_step_keeps_its_word(
    tmp_path: Path, ending: str, punches: bool
) -> None:
    names = all_points(tmp_path, punches)
    assert len(names) > 80
    for point, name in enumerate(names):
        directory = tmp_path / str(point)
        disk, model = simulated(punches), Model()
        killed_at(point, directory, disk, model)
        if ending == "kill -9 and no index":
            shutil.rmtree(directory / "index", ignore_errors=True)
        if ending == "power loss":
            disk.lose_power(random.Random(point))
        try:
            reopened(directory, disk, model, "two" if ending == "power loss" else "one")
        except BaseException:
            print(f"{ending} at point {point}: {name}")
            raise
        shutil.rmtree(directory)


def test_a_start_that_is_killed_at_any_step_is_followed_by_a_good_one(tmp_path: Path) -> None:
    names = all_points(tmp_path, punches=True)
    chance = random.Random(11)
    for point in sorted(chance.sample(range(len(names)), 12)):
        disk, model = SimulatedDisk(), Model()
        killed_at(point, tmp_path / "first", disk, model)
        if point % 2:
            disk.lose_power(random.Random(point))
            shutil.rmtree(tmp_path / "first" / "index", ignore_errors=True)
        second = 0
        while True:
            directory, again = tmp_path / "second", disk.copy()
            shutil.copytree(tmp_path / "first", directory)
            states = Model()
            states.states = dict(model.states)
            again.points = Points(second)
            ended = start_and_end(directory, again)
            try:
                reopened(directory, again, states)
            except BaseException:
                print(f"killed at {names[point]}, then at start step {second}")
                raise
            shutil.rmtree(directory)
            second += 1
            if ended:
                break
        shutil.rmtree(tmp_path / "first")


def start_and_end(directory: Path, disk: SimulatedDisk) -> bool:
    """Whether a start came to its end."""
    opened: list[Index] = []
    original = Index.__init__

    def noting(self: Index, where: Path) -> None:
        original(self, where)
        opened.append(self)

    with index_points(disk.points), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Index, "__init__", noting)
        try:
            open_journal(directory / "index", options(disk))
        except Killed:
            return False
        finally:
            for index in opened:
                index.close()
    return True


Fault = Callable[[SimulatedDisk], None]
FAULTS: dict[str, Fault] = {
    "no write": lambda disk: disk.failing.add("write"),
    "no sync": lambda disk: disk.failing.add("sync"),
    "no read": lambda disk: disk.failing.add("read"),
    "no new file": lambda disk: disk.failing.add("create"),
    "no removal": lambda disk: disk.failing.add("remove"),
    "no write, no truncate": lambda disk: disk.failing.update(("write", "truncate")),
    "full": lambda disk: setattr(disk, "capacity", 0),
}


@pytest.mark.parametrize("seed", range(24))
def test_a_disk_that_fails_at_times_acknowledges_nothing_it_may_lose(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    disk, model = SimulatedDisk(), Model()
    journal, session = open_journal(tmp_path / "index", options(disk))
    compactor = Compactor(journal)
    for _ in range(60):
        disk.failing.clear()
        disk.capacity = 1 << 40
        if chance.random() < 0.3:
            FAULTS[chance.choice(list(FAULTS))](disk)
        puts = chance.sample(POOL, chance.randrange(0, 4))
        held = [each for each in POOL if model.states.get(each.key) is PRESENT]
        drops = [each for each in chance.sample(held, min(len(held), 2)) if each not in puts]
        batch(journal, model, puts, drops)
        try:
            journal.retire()
            while compactor.step(9):
                pass
        except (StoreError, OSError):
            pass
    disk.failing.clear()
    disk.capacity = 1 << 40
    ending = ("clean", "kill -9", "power loss")[seed % 3]
    if ending == "clean":
        close_journal(journal, session)
    else:
        journal.index.close()
    if ending == "power loss":
        disk.lose_power(chance)
    reopened(tmp_path, disk, model, "two" if ending == "power loss" else "one")


def batch(
    journal: Journal, model: Model, puts: list[NewFragment], drops: list[NewFragment]
) -> None:
    """One commit; what failed was not promised, and what was there before still is."""
    before = dict(model.states)
    for each in [*puts, *drops]:
        if each in drops or before.get(each.key) is not PRESENT:
            model.states[each.key] = EITHER
    try:
        outcome = journal.commit(puts, [each.key for each in drops], 5)
    except StoreError:
        return
    for each, error in zip(puts, outcome.errors, strict=True):
        if error is None:
            model.states[each.key] = PRESENT
    for each in drops:
        model.states[each.key] = ABSENT


@pytest.mark.parametrize("index", ["kept", "lost"])
@pytest.mark.parametrize("where", ["volume's head", "record's head", "payload", "last payload"])
def test_an_unreadable_place_costs_what_lies_there(tmp_path: Path, where: str, index: str) -> None:
    disk = SimulatedDisk()
    journal, session = open_journal(tmp_path / "index", options(disk))
    for each in POOL[:12]:
        journal.commit([each], [], 5)
    places = {each.key: journal.index.get(each.key) for each in POOL[:12]}
    close_journal(journal, session)
    if index == "lost":
        shutil.rmtree(tmp_path / "index")
    victim = places[POOL[11 if where == "last payload" else 3].key]
    assert victim is not None
    start = {"volume's head": 0, "record's head": victim.offset}.get(where, victim.payload + 9_000)
    name = volume_name(victim.volume)
    disk.bad[name] = range(start, start + 512)
    lost = {
        key
        for key, place in places.items()
        if place is not None and place.volume == victim.volume and where == "volume's head"
    } or {POOL[11 if where == "last payload" else 3].key}
    for _ in range(2):
        journal, session = open_journal(tmp_path / "index", options(disk))
        assert {each.key for each in POOL[:12] if not reads(journal, each)} == lost
        assert journal.commit([POOL[20]], [], 5).errors == [None]
        close_journal(journal, session)
    disk.bad.clear()  # it was the cable
    if where.endswith("payload"):
        journal, session = open_journal(tmp_path / "index", options(disk))
        assert all(reads(journal, each) for each in POOL[:12])
        close_journal(journal, session)


def reads(journal: Journal, fragment: NewFragment) -> bool:
    """Whether it is there and reads right."""
    place = journal.index.get(fragment.key)
    if place is None:
        return False
    file = journal.volumes[place.volume].file
    try:
        return file.read(place.size + place.head, place.offset)[place.head :] == fragment.payload
    except OSError:
        return False


@pytest.mark.parametrize("error", [lmdb.DiskError, lmdb.MapFullError])
def test_an_index_without_room_undoes_its_batch_and_goes_on_when_there_is_some(
    tmp_path: Path, error: type[Exception]
) -> None:
    disk, full = SimulatedDisk(), False

    class FullIndex(Index):
        @contextmanager
        def write(self) -> Iterator[IndexWriter]:
            with super().write() as writer:
                yield writer
                if full:
                    raise error("no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "Index", FullIndex)
        journal, session = open_journal(tmp_path / "index", options(disk))
        journal.commit(POOL[:4], [], 5)
        used, full = journal.used, True
        for _ in range(3):
            with pytest.raises(StoreFull):
                journal.commit(POOL[4:8], [], 5)
        assert (journal.used, journal.fragments) == (used, 4)
        assert all(reads(journal, each) for each in POOL[:4])
        full = False
        assert journal.commit(POOL[4:8], [POOL[0].key], 5).dropped == 1
        journal.index.close()  # kill -9
    for _ in range(2):
        journal, session = open_journal(tmp_path / "index", options(disk))
        assert [reads(journal, each) for each in POOL[:8]] == [False] + [True] * 7
        close_journal(journal, session)
        shutil.rmtree(tmp_path / "index")


def test_an_index_that_breaks_ends_the_session_and_is_made_again(tmp_path: Path) -> None:
    disk = SimulatedDisk()
    journal, session = open_journal(tmp_path / "index", options(disk))
    journal.commit(POOL[:4], [], 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Index, "write", broken)
        with pytest.raises(StoreFailed):
            journal.commit(POOL[4:6], [], 5)
    with pytest.raises(StoreFailed):
        journal.commit(POOL[4:6], [], 5)
    assert journal.index.damage
    close_journal(journal, session)
    assert session.trust() is Trust.NONE
    journal, session = open_journal(tmp_path / "index", options(disk))
    assert all(reads(journal, each) for each in POOL[:4])
    journal.commit(POOL[4:6], [], 5)
    close_journal(journal, session)
    assert session.trust() is Trust.WHOLE


def broken(_: Index) -> Iterator[IndexWriter]:
    raise lmdb.CorruptedError("page 7")


@pytest.mark.parametrize("missing", ["the file", "half of it"])
def test_a_volume_that_is_gone_leaves_the_index(tmp_path: Path, missing: str) -> None:
    disk = SimulatedDisk()
    journal, session = open_journal(tmp_path / "index", options(disk))
    for each in POOL[:12]:
        journal.commit([each], [], 5)
    close_journal(journal, session)
    if missing == "the file":
        del disk.files[volume_name(2)]
    else:
        del disk.files[volume_name(2)].data[40_000:]
    journal, session = open_journal(tmp_path / "index", options(disk))
    gone = [each for each in POOL[:12] if journal.index.get(each.key) is None]
    assert gone
    assert all(reads(journal, each) for each in POOL[:12] if each not in gone)
    journal.commit(gone, [], 5)  # and so it can be stored again
    assert all(reads(journal, each) for each in POOL[:12])
    close_journal(journal, session)
