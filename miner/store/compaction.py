"""Compaction: what is live in the emptiest full volume is appended anew, a few MiB at a time.

Needed where holes cannot be punched and for small fragments, which share blocks.
"""

import logging
from collections import deque

from miner.fragment import FragmentRecord
from miner.store.journal import Journal, NewFragment
from miner.store.layout import Kind, parse_record, parse_tombstone
from miner.store.recovery import scan
from miner.store.volume import Volume

log = logging.getLogger(__name__)

_STEP_BYTES = 16 * 1024**2


class Compactor:
    """Moves one volume at a time. Runs in the committer, between batches."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._volume: Volume | None = None
        self._keys: deque[bytes] = deque()
        self._damaged: set[int] = set()

    def step(self, now_ns: int) -> bool:
        """Move up to 16 MiB; whether there is more to do. Raises StoreError."""
        if self._volume is None or self._volume.number not in self._journal.volumes:
            self._volume = self._journal.worst(self._damaged)
            if self._volume is None:
                return False
            places = self._journal.index.fragments_in(self._volume.number)
            self._keys = deque(key for key, _ in places)
        if self._keys:
            self._move(self._volume, now_ns)
            return True
        self._bury(self._volume, now_ns)
        self._journal.retire()
        done = self._volume.number not in self._journal.volumes
        self._volume = None
        return done

    def _move(self, volume: Volume, now_ns: int) -> None:
        moves: list[NewFragment] = []
        room = _STEP_BYTES
        while self._keys and room > 0:
            key = self._keys.popleft()
            place = self._journal.index.get(key)
            if place is None or place.volume != volume.number:
                continue
            head = parse_record(
                volume.file.read(place.head, place.offset), place.offset, volume.key
            )
            payload = volume.file.read(place.size, place.payload)
            if head is None or len(payload) != place.size:
                # Its fragment stays where it is until a check or a repair drops it.
                self._damaged.add(volume.number)
                log.error("volume %d, offset %d is damaged", volume.number, place.offset)
                continue
            moves.append(
                NewFragment(
                    key,
                    FragmentRecord.parse(head.description).id,
                    head.description,
                    payload,
                    place.time_ns,
                    place.confirmed,
                    moved=True,
                    owner=head.owner,
                )
            )
            room -= place.size
        if moves:
            self._journal.commit(moves, [], now_ns)

    def _bury(self, volume: Volume, now_ns: int) -> None:
        """Append the tombstones that are still needed to the newest volume."""
        tombs = []
        for found in scan(volume.file, volume.key, 4096):
            if found.head.kind is Kind.TOMBSTONE:
                key, target = parse_tombstone(found.head.description)
                if target != volume.number and target in self._journal.volumes:
                    tombs.append((key, target))
        if tombs:
            self._journal.bury(tombs, now_ns)
        if not volume.figures.live:
            self._journal.release_graves(volume)
