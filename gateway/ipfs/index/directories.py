"""Directories: what a bucket's and each prefix's CID is, kept current in the background.

Whoever changes what a key of a publishing bucket leads to appends the key to a queue, in the same
commit (CHANGED_KEYS). Here the queue is worked off, a slice in a commit: the blocks of the
directories on the keys' paths, the bucket's root, and the rows of the queue. So a crash at any
moment leaves the slice to be done. Replaced blocks are served for a day, up to RETIRED_BYTES of a
bucket. One per network, in the process that hosts the catalog's jobs: docs/specs/unixfs-index.md.
"""

import asyncio
import logging
from collections.abc import Iterator
from itertools import islice

import msgspec

from chain.cids import Cid
from chain.clock import Clock
from gateway.catalog.interface import (
    Batch,
    Catalog,
    CatalogUnavailable,
    Change,
    Conflict,
    Delete,
    Equals,
    Put,
    Reader,
    Space,
)
from gateway.ipfs.codecs import directory
from gateway.ipfs.errors import NotFound
from gateway.ipfs.index import rows
from gateway.ipfs.index.tree import EMPTY, Folders, Place, Plan, plan, split
from gateway.model import Bucket
from gateway.records import BucketRow, CorruptRecord, PublishJob, decode, decode_kept
from gateway.versions import CHANGED_KEYS, PUBLISH_JOBS, text_key

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # between two looks: so long may a CID lag behind
WINDOW = 16_384  # rows of the queue that are sorted and coalesced at once
SLICE = 64  # keys of one commit: 5 ms of the catalog's event loop
RETIRED_NS = 24 * 3600 * 10**9
RETIRED_BYTES = 64 << 20
PENDING_MAX = 10_000  # that are counted
_BATCH_BYTES = 8 << 20
_SWEPT = 2048  # blocks of one commit
_PLACE_BYTES = 34 + rows.FOLDER_BYTES


class Directories:
    """The directory CIDs of publishing buckets, and the job that keeps them."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    def root(self, bucket: Bucket, prefix: str = "") -> Cid:
        """The CID of the directory of a bucket, or of what lies under `prefix`, as of now.

        Costs a look at each part of the prefix. Raises NotFound (the bucket does not publish, has
        no directory yet, or nothing under the prefix).
        """
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        with self._catalog.read() as reader:
            tree = _tree(reader, bucket.id)
            if not bucket.publishes or tree is None or tree.sweeping:
                raise NotFound("this bucket does not publish, or not yet")
            if prefix and split(prefix[:-1]) is None:
                raise NotFound("no directory has this path")
            found = Folders(reader, bucket.id, Cid(tree.root)).folder(prefix)
        if found is None:
            raise NotFound("nothing under this prefix has a CID")
        return found

    def progress(self, bucket: Bucket, prefix: str = "") -> tuple[str, int, int]:
        """(CID of the prefix, objects of the bucket, changes that they lag behind).

        "" where nothing is public. At most PENDING_MAX changes are counted.
        """
        if not bucket.publishes:
            return "", 0, 0
        with self._catalog.read() as reader:
            tree = _tree(reader, bucket.id)
            if tree is None or tree.sweeping:
                return "", 0, 1
            pending = len(_scan(reader, Space.JOBS, rows.changed_prefix(bucket.id), PENDING_MAX))
            for _, value in _scan(reader, Space.JOBS, PUBLISH_JOBS, PENDING_MAX):
                pending += decode(PublishJob, value).bucket_id == bucket.id
            job = reader.get(Space.JOBS, rows.job_key(bucket.id))
            pending += job is None or not rows.bucket_job(job).done
        try:
            return str(self.root(bucket, prefix)), tree.files, pending
        except NotFound:
            return "", tree.files, pending

    # ------------------------------------------------------------------ the job
    async def run(self) -> None:
        """Step until cancelled."""
        while True:
            try:
                busy = await self.step()
            except (CatalogUnavailable, CorruptRecord) as error:
                log.warning("IPFS directories: %s", error)
                busy = False
            if not busy:
                await self._clock.sleep(PAUSE_SECONDS)

    async def step(self) -> bool:
        """A window of each bucket's queue, and what has to go; whether there is more to do now.

        Raises CatalogUnavailable.
        """
        more = False
        for bucket_id in self._changed_buckets():
            more |= await self._follow(bucket_id)
        for bucket_id in self._trees():
            more |= await self._tidy(bucket_id)
        return more

    def _changed_buckets(self) -> Iterator[bytes]:
        """Buckets whose queues are not empty."""
        start, end = CHANGED_KEYS, rows.after(CHANGED_KEYS)
        while True:
            with self._catalog.read() as reader:
                found = reader.scan(Space.JOBS, start, end, 1)
            if not found:
                return
            bucket_id = found[0][0][len(CHANGED_KEYS) :][: rows.ID_BYTES]
            yield bucket_id
            start = rows.after(rows.changed_prefix(bucket_id))

    def _trees(self) -> Iterator[bytes]:
        """Buckets that have directories."""
        start, end = rows.tree_key(b""), rows.after(rows.tree_key(b""))
        while True:
            with self._catalog.read() as reader:
                found = reader.scan(Space.BLOCKS, start, end, 1)
            if not found:
                return
            bucket_id = found[0][0][1:][: rows.ID_BYTES]
            yield bucket_id
            start = rows.after(rows.tree_key(bucket_id))

    # ------------------------------------------------------------------ following keys
    async def _follow(self, bucket_id: bytes) -> bool:
        """One window of a bucket's queue; whether it was a full one."""
        with self._catalog.read() as reader:
            queued = _scan(reader, Space.JOBS, rows.changed_prefix(bucket_id), WINDOW)
        by_key: dict[bytes, list[bytes]] = {}
        for place, key in queued:
            by_key.setdefault(key, []).append(place)
        order = _in_order(by_key)
        at = 0
        while at < len(order):
            at += await self._slice(bucket_id, order[at : at + SLICE], by_key)
            await asyncio.sleep(0)  # others have their turn between slices
        return len(queued) == WINDOW

    async def _slice(
        self, bucket_id: bytes, keys: list[bytes], by_key: dict[bytes, list[bytes]]
    ) -> int:
        """Bring the directories in line with some keys; how many it were."""
        with self._catalog.read() as reader:
            raw = reader.get(Space.BLOCKS, rows.tree_key(bucket_id))
            tree = None if raw is None else rows.tree_row(raw)
            made = None
            while tree is not None and not tree.sweeping:
                made = plan(reader, bucket_id, tree, map(text_key, keys))
                if len(keys) == 1 or sum(map(len, made.blocks.values())) <= _BATCH_BYTES:
                    break
                keys = keys[: len(keys) // 2]
        done: list[Change] = [Delete(Space.JOBS, place) for key in keys for place in by_key[key]]
        condition = Equals(Space.BLOCKS, rows.tree_key(bucket_id), raw)
        if tree is None or made is None:  # the bucket's tree begins later, with all its keys
            await self._commit(Batch([condition], done))
        else:
            await self._make(bucket_id, tree, made, condition, done)
        return len(keys)

    async def _make(
        self,
        bucket_id: bytes,
        tree: rows.TreeRow,
        made: Plan,
        condition: Equals,
        done: list[Change],
    ) -> None:
        """Commit a plan. What does not fit one commit goes ahead as if it were replaced already."""
        now = max(self._clock.now_ns(), tree.changed_ns + 1)
        blocks = list(made.blocks.items())
        while sum(len(block) for _, block in blocks) > _BATCH_BYTES:
            first, total = [], 0
            while blocks and total < _BATCH_BYTES // 2:
                first.append(blocks.pop(0))
                total += len(first[-1][1])
            tree = msgspec.structs.replace(tree, changed_ns=now, retired=tree.retired + total)
            changes = _puts(bucket_id, first)
            changes += _retire(bucket_id, [place for place, _ in first], total, now)
            condition = await self._step_tree(bucket_id, tree, condition, changes)
            now += 1
        changes = _puts(bucket_id, blocks)
        # What was replaced once may come back.
        changes += [_revive(bucket_id, place) for place in made.blocks]
        for folder, weight in made.weights.items():
            key = rows.weight_key(bucket_id, folder)
            changes.append(
                Delete(Space.BLOCKS, key)
                if weight is None
                else Put(Space.BLOCKS, key, weight.to_bytes(8, "big"))
            )
        gone = sum(made.gone.values())
        if made.gone:
            changes += _retire(bucket_id, list(made.gone), gone, now)
        tree = msgspec.structs.replace(
            tree,
            root=made.root.raw,
            total=made.total,
            files=tree.files + made.files,
            changed_ns=now,
            retired=tree.retired + gone,
        )
        await self._step_tree(bucket_id, tree, condition, [*changes, *done])

    async def _step_tree(
        self, bucket_id: bytes, tree: rows.TreeRow, condition: Equals, changes: list[Change]
    ) -> Equals:
        """Commit changes with the bucket's row; the condition of the next commit."""
        value = rows.pack(tree)
        key = rows.tree_key(bucket_id)
        await self._commit(Batch([condition], [*changes, Put(Space.BLOCKS, key, value)]))
        return Equals(Space.BLOCKS, key, value)

    # ------------------------------------------------------------------ what has to go
    async def _tidy(self, bucket_id: bytes) -> bool:
        """Remove replaced blocks whose time is over, or all where nothing is published any more."""
        with self._catalog.read() as reader:
            raw = reader.get(Space.BLOCKS, rows.tree_key(bucket_id))
            if raw is None:
                return False
            tree = rows.tree_row(raw)
            batch: Batch | None
            if tree.sweeping or not _publishes(reader, bucket_id, tree.bucket):
                batch = _sweep(reader, bucket_id, tree, raw)
            elif (found := self._expired(reader, bucket_id, tree)) is not None:
                batch = _forget(reader, bucket_id, tree, raw, found)
            else:
                batch = _replace_legacy(reader, bucket_id)
        if batch is None:
            return False
        await self._commit(batch)
        await asyncio.sleep(0)
        return True

    def _expired(
        self, reader: Reader, bucket_id: bytes, tree: rows.TreeRow
    ) -> tuple[bytes, bytes] | None:
        """The oldest list of replaced blocks, if its time is over or there are too many."""
        for key, value in _scan(reader, Space.BLOCKS, rows.retired_prefix(bucket_id), 1):
            since = int.from_bytes(key[-8:], "big")
            if tree.retired > RETIRED_BYTES or since + RETIRED_NS <= self._clock.now_ns():
                return key, value
        return None

    async def _commit(self, batch: Batch) -> None:
        """What was overtaken (the bucket was switched) comes again with the next step."""
        try:
            await self._catalog.commit(batch)
        except Conflict as conflict:
            log.info("IPFS directories: %s", conflict)


def begin(bucket_id: bytes, name: str) -> list[Change]:
    """The rows of a bucket's empty directory."""
    [(cid, block)] = EMPTY.blocks
    tree = rows.TreeRow(name, cid.raw, EMPTY.total)
    return [
        *_puts(bucket_id, [((rows.folder_id(""), cid), block)]),
        Put(Space.BLOCKS, rows.tree_key(bucket_id), rows.pack(tree)),
    ]


# ---------------------------------------------------------------------- rows
def _tree(reader: Reader, bucket_id: bytes) -> rows.TreeRow | None:
    value = reader.get(Space.BLOCKS, rows.tree_key(bucket_id))
    return None if value is None else rows.tree_row(value)


def _scan(reader: Reader, space: Space, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    return reader.scan(space, prefix, rows.after(prefix), limit)


def _publishes(reader: Reader, bucket_id: bytes, name: str) -> bool:
    value = reader.get(Space.BUCKETS, name.encode())
    if value is None:
        return False
    row = decode_kept(BucketRow, value)
    return bool(row.id == bucket_id and row.publishes)


def _in_order(keys: dict[bytes, list[bytes]]) -> list[bytes]:
    """Keys of one directory beside each other, and in it by their slots if it may be a HAMT: so
    that each block is made in few slices."""

    def place(key: bytes) -> tuple[bytes, bytes]:
        folder, _, name = key.rpartition(b"/")
        return folder, directory.hash_bytes(name)

    return sorted(keys, key=place) if len(keys) > SLICE else list(keys)


def _puts(bucket_id: bytes, blocks: list[tuple[Place, bytes]]) -> list[Change]:
    return [
        Put(
            Space.BLOCKS,
            rows.directory_key(cid.multihash, bucket_id, folder),
            rows.DIRECTORY + block,
        )
        for (folder, cid), block in blocks
    ]


def _revive(bucket_id: bytes, place: Place) -> Delete:
    folder, cid = place
    return Delete(Space.BLOCKS, rows.retired_key(bucket_id, cid.multihash, folder))


def _retire(bucket_id: bytes, places: list[Place], size: int, now: int) -> Iterator[Change]:
    """The list of the blocks that are replaced by now, `size` bytes in all, and each one's time."""
    time = now.to_bytes(8, "big")
    packed = b"".join(cid.multihash + folder for folder, cid in places)
    key = rows.retired_prefix(bucket_id) + time
    yield Put(Space.BLOCKS, key, rows.FORMAT + size.to_bytes(8, "big") + packed)
    for folder, cid in places:
        yield Put(Space.BLOCKS, rows.retired_key(bucket_id, cid.multihash, folder), time)


def _forget(
    reader: Reader, bucket_id: bytes, tree: rows.TreeRow, raw: bytes, found: tuple[bytes, bytes]
) -> Batch:
    """Remove the blocks of a list, as far as they did not come back and go again."""
    key, value = found
    changes: list[Change] = [Delete(Space.BLOCKS, key)]
    for at in range(9, len(value), _PLACE_BYTES):
        place = value[at : at + _PLACE_BYTES]
        multihash, folder = place[: -rows.FOLDER_BYTES], place[-rows.FOLDER_BYTES :]
        since = rows.retired_key(bucket_id, multihash, folder)
        if reader.get(Space.BLOCKS, since) == key[-8:]:
            changes.append(Delete(Space.BLOCKS, since))
            block = rows.directory_key(multihash, bucket_id, folder)
            changes.append(Delete(Space.BLOCKS, block))
    size = int.from_bytes(value[1:9], "big")
    tree = msgspec.structs.replace(tree, retired=max(tree.retired - size, 0))
    changes.append(Put(Space.BLOCKS, rows.tree_key(bucket_id), rows.pack(tree)))
    return Batch([Equals(Space.BLOCKS, rows.tree_key(bucket_id), raw)], changes)


def _sweep(reader: Reader, bucket_id: bytes, tree: rows.TreeRow, raw: bytes) -> Batch:
    """A step towards a bucket without directories: mark, blocks, then what tells of them."""
    own = rows.tree_key(bucket_id)
    condition = [Equals(Space.BLOCKS, own, raw)]
    if not tree.sweeping:
        marked = rows.pack(msgspec.structs.replace(tree, sweeping=True))
        return Batch(condition, [Put(Space.BLOCKS, own, marked)])
    for key, value in _scan(reader, Space.BLOCKS, rows.retired_prefix(bucket_id), 1):
        return _forget(reader, bucket_id, tree, raw, (key, value))
    places = islice(Folders(reader, bucket_id, Cid(tree.root)).places(), _SWEPT)
    gone = [rows.directory_key(cid.multihash, bucket_id, folder) for folder, cid in places]
    if not gone:
        gone = [key for key, _ in _scan(reader, Space.BLOCKS, own, _SWEPT)]
        if len(gone) == _SWEPT:
            gone.remove(own)
    return Batch(condition, [Delete(Space.BLOCKS, key) for key in gone])


def _replace_legacy(reader: Reader, bucket_id: bytes) -> Batch | None:
    """What the first releases kept goes once the tree has all keys."""
    if _scan(reader, Space.JOBS, rows.changed_prefix(bucket_id), 1):
        return None
    job = reader.get(Space.JOBS, rows.job_key(bucket_id))
    if job is None or not rows.bucket_job(job).done:
        return None
    return sweep_legacy(reader, bucket_id)


def sweep_legacy(reader: Reader, bucket_id: bytes) -> Batch | None:
    """Removes one directory as the first releases kept them; None when there is none left."""
    for key, value in _scan(reader, Space.BLOCKS, rows.roots_prefix(bucket_id), 1):
        packed = rows.directory_root(value).multihashes
        changes: list[Change] = [
            Delete(Space.BLOCKS, rows.directory_key(packed[at : at + 34], bucket_id, b""))
            for at in range(0, len(packed), 34)
        ]
        changes.append(Delete(Space.BLOCKS, key))
        return Batch([Equals(Space.BLOCKS, key, value)], changes)
    return None
