"""Where a miner's scrub is, kept over restarts. See docs/specs/scrub.md."""

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from chain.format import write_durably
from miner.fragment import KEY_BYTES

log = logging.getLogger(__name__)

_BYTES_MAX = 1024**2
_Key = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Damage(msgspec.Struct, array_like=True):
    """A fragment that was found damaged: to be looked at again, then dropped and reported."""

    key: _Key
    owner: Annotated[bytes, msgspec.Meta(max_length=32)]  # empty: this machine, or unknown
    found_ns: _Time


class ScrubState(msgspec.Struct):
    """Mutable; the scrub alone changes it. Times are wall clock, ns since 1970, 0 = never."""

    started_ns: _Time = 0  # when the present cycle began
    after: Annotated[bytes, msgspec.Meta(max_length=KEY_BYTES)] = b""  # the last checked key
    finished_ns: _Time = 0  # when the last full cycle ended
    damaged: _Time = 0  # fragments that were found damaged and dropped, ever
    waiting: list[Damage] = msgspec.field(default_factory=list)


class ScrubRecord(Protocol):
    """Where the state is kept."""

    def load(self) -> ScrubState:
        """What was saved last, or a new state."""
        ...

    async def save(self, state: ScrubState) -> None:
        """Make it durable. Raises OSError."""
        ...


class ScrubFile:
    """One small JSON file, replaced as a whole. A damaged one starts the scrub anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> ScrubState:
        """See ScrubRecord."""
        try:
            if self._path.stat().st_size > _BYTES_MAX:
                raise ValueError("it is too large")
            return msgspec.json.decode(self._path.read_bytes(), type=ScrubState)
        except FileNotFoundError:
            return ScrubState()
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            log.warning("%s is damaged, the scrub starts anew: %s", self._path, error)
            return ScrubState()

    async def save(self, state: ScrubState) -> None:
        """See ScrubRecord."""
        data = msgspec.json.encode(state)
        await asyncio.to_thread(write_durably, self._path, data, 0o600)


class ScrubMemory:
    """For simulations and tests."""

    def __init__(self) -> None:
        self.saved = msgspec.json.encode(ScrubState())

    def load(self) -> ScrubState:
        """See ScrubRecord."""
        return msgspec.json.decode(self.saved, type=ScrubState)

    async def save(self, state: ScrubState) -> None:
        """See ScrubRecord."""
        self.saved = msgspec.json.encode(state)
