"""Named places at which a process can die: every call that reaches the disk, and every step.

Nothing has to be listed: a pass of any method of Disk, any fsync and any commit of the ledger is a
point, named by what was done and by the step before it. So a new fsync is a new point by itself.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chain.ledger.lmdb_store import LmdbStore
from chain.ledger.store import Changes
from gateway.catalog.disk import Disk


class Points:
    """Counts passes; SIGKILL to its own process at the one that it was told."""

    def __init__(self, name: str = "", occurrence: int = 0) -> None:
        self.passes: Counter[str] = Counter()
        self.step = "start"
        self._kill = (name, occurrence)

    def passed(self, what: str) -> None:
        name = f"{what} after {self.step}"
        self.passes[name] += 1
        if (name, self.passes[name]) == self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()

    def reached(self, step: str) -> None:
        self.passed(step)
        self.step = step


def _passing(name: str) -> Callable[..., Any]:
    method = getattr(Disk, name)

    def call(self: Any, *arguments: Any) -> Any:
        if name == "reached":
            self.points.reached(*arguments)
        else:
            self.points.passed(name)
        return method(self, *arguments)

    return call


class PointDisk(Disk):
    """Real files; every call is a point, before it is made. What a kill leaves needs no sync."""

    def __init__(self, points: Points) -> None:
        self.points = points

    def sync(self, descriptor: int) -> None:
        self.points.passed("sync")
        assert descriptor >= 0

    def sync_directory(self, path: Path) -> None:
        self.points.passed("sync_directory")
        assert path.is_dir()


for _name in vars(Disk):
    if not _name.startswith("_") and _name not in vars(PointDisk):
        setattr(PointDisk, _name, _passing(_name))


def point_ledger(points: Points) -> type[LmdbStore]:
    """An LmdbStore each of whose commits has a point before and one behind it."""

    class PointStore(LmdbStore):
        def __init__(self, directory: Path) -> None:
            super().__init__(directory, sync=False)  # as above

        def commit(self, changes: Changes) -> None:
            points.reached("ledger commit")
            super().commit(changes)
            points.reached("ledger committed")

    return PointStore


def point_fsync(points: Points) -> Callable[[int], None]:
    """In place of os.fsync: of keys, genesis, formats, and what else is written once."""

    def fsync(descriptor: int) -> None:
        points.passed("fsync")
        assert descriptor >= 0

    return fsync
