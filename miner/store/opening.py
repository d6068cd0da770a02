"""Opening a store directory: trust or rebuild the index, replay the tails, cut what is torn."""

import contextlib
import logging
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import lmdb

from chain.clock import Entropy
from miner.fragment import FragmentRecord, InvalidFragment
from miner.store.files import Disk, VolumeFile
from miner.store.index import DamagedIndex, Index, IndexWriter, Place, VolumeFigures
from miner.store.interface import StoreError
from miner.store.journal import Journal, volume_name
from miner.store.layout import (
    BLOCK,
    CorruptVolume,
    Kind,
    align,
    parse_tombstone,
    parse_volume,
)
from miner.store.recovery import Found, is_blank, is_whole, scan
from miner.store.session import Session, Trust
from miner.store.volume import Volume

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """What a journal needs besides its directory."""

    disk: Disk
    entropy: Entropy
    pledge: int
    volume_bytes: int
    boot_id: str


def boot_id() -> str:
    """Changes with every start of the machine; empty where that is not known."""
    if sys.platform != "linux":
        return ""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def open_journal(index_directory: Path, options: JournalOptions) -> tuple[Journal, Session]:
    """Open or create. Every record that was acknowledged is in the journal afterwards.

    An index that is damaged is made again from the volumes. Raises OSError.
    """
    session = Session(index_directory, options.boot_id)
    trust = session.trust()
    if trust is not Trust.NONE:
        session.opening()
        try:
            journal = _open(index_directory, options, check=trust is Trust.UNCHECKED)
        except (DamagedIndex, lmdb.Error) as error:
            log.error("the index is damaged and is made again: %s", error)
        else:
            session.opened()
            return journal, session
    session.begin_anew()
    return _open(index_directory, options, check=False), session


def close_journal(journal: Journal, session: Session) -> None:
    """Leave a clean index behind."""
    damaged = journal.index.damage
    with contextlib.suppress(OSError):
        journal.end_current()
    if not damaged:
        journal.index.sync()
    journal.index.close()
    for volume in journal.volumes.values():
        volume.unpin()
    if damaged:
        session.distrust()
    else:
        session.closed()


def _open(index_directory: Path, options: JournalOptions, *, check: bool) -> Journal:
    index = Index(index_directory)
    journal = Journal(options.disk, index, options.entropy, options.pledge, options.volume_bytes)
    try:
        if check:
            index.check()
        journal.fragments = index.count()
        damaged = _open_volumes(journal, index.volumes())
        _drop_damaged(journal, damaged)
        journal.retire()
    except BaseException:
        index.close()
        for volume in journal.volumes.values():
            volume.unpin()
        raise
    return journal


def _open_volumes(journal: Journal, known: dict[int, VolumeFigures]) -> list[tuple[bytes, int]]:
    present = {}
    for name in journal.disk.names():
        stem, _, suffix = name.partition(".")
        if suffix == "volume" and len(stem) == 8 and stem.isdigit() and int(stem):
            present[int(stem)] = name
    for number in known.keys() - present.keys():
        if known[number].live:
            raise DamagedIndex(f"volume {number} is not there")
        with journal.index.write() as writer:
            writer.forget_volume(number)
    volumes = []
    for number in sorted(present):
        volume = _open_volume(journal, number, known.get(number))
        if volume is not None:
            volumes.append(volume)
            journal.adopt(volume, writable=False)
    damaged: list[tuple[bytes, int]] = []
    for volume in volumes:
        damaged += _replay(journal, volume)
    if volumes:
        volumes[-1].writable = True
        journal.adopt(volumes[-1], writable=True)
    return damaged


def _open_volume(journal: Journal, number: int, known: VolumeFigures | None) -> Volume | None:
    name = volume_name(number)
    file = journal.disk.open(name)
    size = file.size()
    try:
        key = parse_volume(_head(file), number)
        if known is not None and known.end > size:
            raise DamagedIndex(f"volume {number} has {size} bytes, not {known.end}")
    except CorruptVolume as error:
        file.close()
        if size <= BLOCK:
            journal.disk.remove(name)  # the process died while it made the volume
            return None
        if known is not None:
            # Its fragments leave the index: else they would count as stored for ever.
            raise DamagedIndex(str(error)) from error
        journal.reserve(number)
        log.error("%s; it is left alone and its fragments count as lost", error)
        return None
    except BaseException:
        file.close()
        raise
    return Volume(number, key, file, replace(known) if known else VolumeFigures(end=BLOCK))


def _head(file: VolumeFile) -> bytes:
    """Block 0; empty where the disk cannot read it."""
    try:
        return file.read(BLOCK, 0)
    except OSError as error:
        log.error("the head of a volume cannot be read: %s", error)
        return b""


def _replay(journal: Journal, volume: Volume) -> list[tuple[bytes, int]]:
    """Enter what the index has not; returns the fragments that are not whole."""
    start = volume.figures.end
    # Heads only; a volume of 1 GiB with 16 KiB fragments has 65,000 of them, 30 MB.
    found = list(scan(volume.file, volume.key, start))
    last = found[-1].head.batch if found else 0
    bad = {
        each.offset for each in found if each.head.batch == last and not is_whole(volume.file, each)
    }
    while found and found[-1].offset in bad:
        found.pop()
    end = align(found[-1].end) if found else start
    size = volume.file.size()
    if size > end:
        if not is_blank(volume.file, end, size):
            log.warning("volume %d: a torn tail of %d bytes is cut", volume.number, size - end)
        volume.cut(end)
    damaged: list[tuple[bytes, int]] = []
    if found:
        volume.figures.end = end
        volume.figures.batch = found[-1].head.batch
        with journal.index.write() as writer:
            for each in found:
                key = _enter(journal, writer, volume, each)
                if each.offset in bad and key is not None:
                    damaged.append((key, volume.number))
            writer.volume(volume.number, volume.figures)
        log.info("volume %d: %d records replayed", volume.number, len(found))
    return damaged


def _enter(journal: Journal, writer: IndexWriter, volume: Volume, found: Found) -> bytes | None:
    head = found.head
    try:
        if head.kind is Kind.TOMBSTONE:
            key, target = parse_tombstone(head.description)
            journal.drop(writer, key, target, volume.number)
            return None
        record = FragmentRecord.parse(head.description)
    except (CorruptVolume, InvalidFragment) as error:
        log.error("volume %d, offset %d: %s", volume.number, found.offset, error)
        return None
    place = Place(
        volume.number,
        found.offset,
        head.head_bytes,
        head.size,
        head.time_ns,
        head.confirmed,
        record.id,
    )
    journal.add(writer, record.key, place)
    return record.key


def _drop_damaged(journal: Journal, damaged: list[tuple[bytes, int]]) -> None:
    """Bury fragments of a torn batch, so that no later rebuild takes them for whole."""
    if damaged:
        log.warning("%d fragments of a torn batch are dropped", len(damaged))
        try:
            journal.bury(damaged, now_ns=0)
        except StoreError as error:
            log.warning("the scrub will find them, for now the disk takes nothing: %s", error)
