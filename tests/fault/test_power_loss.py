"""The catalog on a disk that loses what was not synced, tears the last writes, and fails."""

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from chain.format import open_store
from gateway.catalog.bodies import LogReader, Snapshot
from gateway.catalog.compaction import CompactionSettings
from gateway.catalog.interface import Batch, CatalogUnavailable, Delete, Put, Space
from gateway.catalog.log import LogFailed
from gateway.catalog.store import FORMAT, KIND, CatalogStore
from tests.conformance.catalog_suite import Model, apply_to_model
from tests.fault.catalog_tools import SMALL, compact_here
from tests.fault.lossy_disk import LossyDisk, PowerCut

KEYS = [b"%02d" % number for number in range(12)]
SPACES = (Space.LIVE, Space.BODIES)
EAGER = CompactionSettings(live_fraction=0.9, step_rows=3)


class Life:
    """A catalog under random work, over several starts of the machine, and what it promised."""

    def __init__(self, folder: Path, seed: int, error_rate: float = 0.0) -> None:
        self.folder, self.chance = folder, Random(seed)
        self.model: Model = {}
        self.uncertain: list[Batch] = []  # a group whose outcome nobody knows
        self.boots = 0
        self.error_rate = error_rate
        open_store(self.directory, KIND, FORMAT, {})
        self.disk = LossyDisk(self.chance)
        self.disk.adopt(self.directory)

    @property
    def directory(self) -> Path:
        return self.folder / f"boot-{self.boots}"

    # ------------------------------------------------------------------ what happens
    def start(self, *, cut_after: int = 1 << 30) -> CatalogStore:
        """On a disk that answers, for so many calls: whether it starts again is the question."""
        self.disk.cut_at, self.disk.error_rate = self.disk.calls + cut_after, 0.0
        boot = f"boot {self.boots}"
        store = CatalogStore.open(self.directory, disk=self.disk, boot=lambda: boot, settings=SMALL)
        self.disk.error_rate = self.error_rate
        return store

    def work(self, store: CatalogStore) -> None:
        """One thing that a catalog does. Raises what it raises."""
        dice = self.chance.random()
        if dice < 0.8:
            self.uncertain = [self.batch() for _ in range(self.chance.choice([1, 1, 3]))]
            try:
                store.commit(self.uncertain)
            except CatalogUnavailable:
                self.settle(0)  # it promised that none of them was made
                raise
            self.settle(len(self.uncertain))
        elif dice < 0.9:
            store.checkpoint()
        else:
            compact_here(store, EAGER)

    def batch(self) -> Batch:
        chance = self.chance
        changes: list[Put | Delete] = []
        for _ in range(chance.choice([1, 1, 2, 5])):
            space, key = chance.choice(SPACES), chance.choice(KEYS)
            if chance.random() < 0.3:
                changes.append(Delete(space, key))
            else:
                changes.append(Put(space, key, chance.randbytes(chance.choice([0, 5, 300, 1500]))))
        return Batch(changes=changes)

    def power_comes_back(self) -> None:
        """On a machine whose disk is what the cut left."""
        before, self.boots = self.directory, self.boots + 1
        self.directory.mkdir()
        self.disk.survivors(before, self.directory)
        self.disk = LossyDisk(self.chance)
        self.disk.adopt(self.directory)

    # ------------------------------------------------------------------ what must hold
    def settle(self, count: int) -> None:
        """The first `count` batches of the last group were made, the others were not."""
        for batch in self.uncertain[:count]:
            apply_to_model(self.model, batch.changes)  # type: ignore[arg-type]
        self.uncertain = []

    def check(self, store: CatalogStore) -> None:
        """All that was promised is there, and of an uncertain group its first batches at most."""
        log = LogReader(store.log.directory)
        with Snapshot(store.index, log) as reader:
            found = {
                (space, key): value
                for space in SPACES
                for key, value in reader.scan(space, b"\x00", None, 1000)
            }
        log.close()
        uncertain, before = self.uncertain, dict(self.model)
        for count in range(len(uncertain) + 1):
            self.model, self.uncertain = dict(before), uncertain
            self.settle(count)
            if found == self.model:
                return
        raise AssertionError(f"{len(found)} rows were found, {len(before)} promised")


@pytest.mark.parametrize("seed", range(40))
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(
    tmp_path: Path, seed: int
) -> None:
    life = Life(tmp_path, seed)
    for _ in range(5):
        store = None
        try:
            store = life.start(cut_after=life.chance.choice([3, 10, 30, 60]))
            life.check(store)
            while True:
                life.work(store)
                if life.chance.random() < 0.1:
                    store.close()
                    store = life.start(cut_after=life.chance.randrange(1, 30))
        except PowerCut:
            if store is not None:
                store.abandon()
        life.power_comes_back()
    store = life.start()
    life.check(store)
    store.close()


@pytest.mark.parametrize("seed", range(25))
def test_a_disk_that_fails_now_and_then_costs_commits_and_never_what_was_acknowledged(
    tmp_path: Path, seed: int
) -> None:
    life = Life(tmp_path, 1000 + seed, error_rate=0.03)
    refused = 0
    for _ in range(3):
        store = life.start()
        for _ in range(60):
            try:
                life.work(store)
            except (OSError, CatalogUnavailable):
                refused += 1
            except LogFailed:
                refused += 1
                store.abandon()
                store = life.start()
                life.check(store)
        life.check(store)
        if life.chance.random() < 0.5:
            with suppress(OSError):
                store.close()
        else:
            store.abandon()
        life.power_comes_back()
    store = life.start()
    life.check(store)
    store.abandon()
    assert refused
