"""Denylists on disk: read at the start, and again when a file changes.

While there are lists that could not be read even once, nothing is served: what they block is not
known. A list that cannot be read later leaves the rules as they were.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from chain.cids import Cid
from chain.clock import Clock
from gateway.ipfs.errors import RulesUnknown
from gateway.ipfs.index.deny import BadRule, Rules

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
_FILE_BYTES_MAX = 1 << 30


class DenyFiles:
    """The rules of some files, and of the `.deny` files of some directories, in their order."""

    def __init__(self, paths: Sequence[Path], clock: Clock) -> None:
        self._paths = paths
        self._clock = clock
        self._seen: object = None  # names, sizes and times of the files that were read
        self._rules: Rules | None = None if paths else Rules()
        self.look()

    @property
    def rules(self) -> Rules:
        """The rules that hold. Raises RulesUnknown."""
        if self._rules is None:
            raise RulesUnknown("a denylist of this gateway cannot be read")
        return self._rules

    def check_block(self, cid: Cid) -> None:
        """Raises Denied, DeniedByLaw, RulesUnknown."""
        if self._paths:
            self.rules.check_block(cid)

    def check_path(self, cid: Cid, segments: Sequence[str]) -> None:
        """Raises Denied, DeniedByLaw, RulesUnknown."""
        if self._paths:
            self.rules.check_path(cid, segments)

    def check_name(self, name: str, segments: Sequence[str]) -> None:
        """Raises Denied, DeniedByLaw, RulesUnknown."""
        if self._paths:
            self.rules.check_name(name, segments)

    async def run(self) -> None:
        """Look for changes until cancelled; without lists there is nothing to do."""
        while self._paths:
            await self._clock.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Read the files again if one of them changed. Any thread."""
        try:
            files = [file for path in self._paths for file in _files(path)]
            seen = [(str(f), s.st_size, s.st_mtime_ns) for f in files for s in (f.stat(),)]
            if seen == self._seen:
                return
            rules = Rules()
            for file in files:
                rules.add(_text(file))
        except (OSError, BadRule) as error:
            log.error("denylists are left as they were: %s", error)
            return
        for fault in rules.faults:
            log.warning("no rule of a denylist: %s", fault)
        self._seen, self._rules = seen, rules
        log.info("denylists: %d rules", rules.count)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.deny")) if path.is_dir() else [path]


def _text(file: Path) -> str:
    if file.stat().st_size > _FILE_BYTES_MAX:
        raise BadRule(f"{file} is larger than 1 GiB")
    return file.read_text("utf-8", "surrogateescape")
