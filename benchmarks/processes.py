"""CPU seconds and memory of a server's processes, from /proc (Linux)."""

import itertools
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """User and system seconds, resident bytes: all processes together, and seconds by role."""

    cpu: float
    resident: int
    roles: dict[str, float]

    def roles_since(self, before: "Usage") -> dict[str, float]:
        """Seconds that each role used after `before`."""
        return {role: used - before.roles.get(role, 0.0) for role, used in self.roles.items()}


def family(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += family(int(child))
    return found


def usage(pid: int) -> Usage:
    """Of a process and everything below it now."""
    cpu, resident = 0.0, 0
    roles: dict[str, float] = defaultdict(float)
    for member in family(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        seconds = (int(fields[11]) + int(fields[12])) / TICKS
        cpu += seconds
        roles[_role(member)] += seconds
        resident += int(fields[21]) * PAGE
    return Usage(cpu, resident, roles)


def _role(pid: int) -> str:
    """What a process is: the module, and its command, that its `python -m` names."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "gone"
    after = words[words.index("-m") + 1 :] if "-m" in words else words[:1]
    return " ".join(itertools.takewhile(lambda word: not word.startswith("-"), after[:2]))
