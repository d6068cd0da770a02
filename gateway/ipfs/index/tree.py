"""The directories of one bucket as they follow its keys. Pure: a snapshot in, a plan out.

Rules:
1. In: keys of published versions whose parts are names: none is empty, `.`, `..` or over 255 bytes.
   A pack (packs.py) stands for what is in it, if that is UnixFS.
2. Of an object and a folder with one name, the folder is in the directory.
3. A folder is there as long as something is in it; the bucket's own directory always.
4. Each block belongs to one directory (by its path) of one bucket, so it goes with it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from chain.cids import DAG_PB, RAW, Cid
from gateway.catalog.interface import Reader, Space
from gateway.ipfs.codecs import directory
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.index import rows
from gateway.records import CorruptRecord, decode_listed, live_key
from gateway.versions import object_key

EMPTY = directory.build(())
NAME_BYTES_MAX = 255
Place = tuple[bytes, Cid]  # folder id, block


@dataclass(slots=True)
class Plan:
    """What a change of some keys makes of a bucket's directories."""

    root: Cid
    total: int
    files: int  # more than before
    blocks: dict[Place, bytes] = field(default_factory=dict)  # new ones
    gone: dict[Place, int] = field(default_factory=dict)  # replaced ones and their bytes
    weights: dict[bytes, int | None] = field(default_factory=dict)  # by folder id


def split(key: str) -> tuple[str, str] | None:
    """(folder, name) of a key that is a path: `a/b/c` is in `a/b/`. None if it is none."""
    parts = key.split("/")
    for part in parts:
        if part in {"", ".", ".."}:
            return None
        if len(part.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
            return None
    return key[: len(key) - len(parts[-1])], parts[-1]


def parent(folder: str) -> tuple[str, str]:
    """(folder above, name in it) of `a/b/`."""
    above, _, name = folder[:-1].rpartition("/")
    return (f"{above}/" if above else ""), name


def file_link(reader: Reader, bucket_id: bytes, key: str) -> Link | None:
    """What the directory has for a key now; its name is left out."""
    raw = reader.get(Space.LIVE, live_key(bucket_id, object_key(key)))
    if raw is None:
        return None
    listed = decode_listed(raw)
    if listed.cid is None:
        return None
    cid = Cid.parse(listed.cid)
    if cid.codec not in {RAW, DAG_PB}:  # a pack of other data
        return None
    value = reader.get(Space.BLOCKS, rows.version_key(listed.uid))
    if value is None:  # its rows are still to come
        return None
    return Link(cid, "", rows.published_version(value).total)


class Folders:
    """The directories as a snapshot has them."""

    def __init__(self, reader: Reader, bucket_id: bytes, root: Cid) -> None:
        self._reader = reader
        self._bucket_id = bucket_id
        self._known: dict[str, Cid | None] = {"": root}

    def block(self, folder: bytes, cid: Cid) -> bytes | None:
        """A directory's block."""
        key = rows.directory_key(cid.multihash, self._bucket_id, folder)
        value = self._reader.get(Space.BLOCKS, key)
        return None if value is None else value[1:]

    def load(self, folder: bytes, cid: Cid) -> bytes:
        """A directory's block that is there. Raises CorruptRecord."""
        found = self.block(folder, cid)
        if found is None:
            raise CorruptRecord(f"a directory's block {cid} is missing")
        return found

    def folder(self, path: str) -> Cid | None:
        """The directory at a path; None if there is none."""
        steps: list[tuple[str, str, str]] = []
        while path not in self._known:
            above, name = parent(path)
            steps.append((above, name, path))
            path = above
        for above, name, below in reversed(steps):
            at, link = self._known[above], None
            if at is not None:
                link = directory.find(at, name, partial(self.load, rows.folder_id(above)))
            there = link is not None and self.is_folder(link.cid, below)
            self._known[below] = link.cid if link is not None and there else None
            path = below
        return self._known[path]

    def is_folder(self, cid: Cid, path: str) -> bool:
        """Whether this is the directory at the path, and not a file."""
        return cid.codec != RAW and self.block(rows.folder_id(path), cid) is not None

    def weight(self, folder: bytes) -> int | None:
        """See directory.update."""
        value = self._reader.get(Space.BLOCKS, rows.weight_key(self._bucket_id, folder))
        return None if value is None else int.from_bytes(value, "big")

    def places(self, path: str = "") -> Iterator[Place]:
        """All blocks of the directory at `path` and below it, children first.

        What is missing is passed over, with what is below it: blocks are removed in this order.
        """
        root = self.folder(path)
        if root is None:
            return
        waiting: list[tuple[Place, Iterator[tuple[str, Cid]]]] = []
        at: tuple[str, Cid] | None = (path, root)
        while True:
            if at is not None:
                folder, cid = at
                named = rows.folder_id(folder)
                block = self.block(named, cid)
                if block is not None:
                    waiting.append(((named, cid), self._below(folder, block)))
            if not waiting:
                return
            at = next(waiting[-1][1], None)
            if at is None:
                yield waiting.pop()[0]

    def _below(self, folder: str, block: bytes) -> Iterator[tuple[str, Cid]]:
        """Shards of the same directory, and directories in it (or files, of which is no block)."""
        is_shard, links = directory.entries(block)
        for link in links:
            if is_shard and len(link.name) == 2:
                yield folder, link.cid
            elif link.cid.codec != RAW:
                yield f"{folder}{link.name[2:] if is_shard else link.name}/", link.cid


def plan(reader: Reader, bucket_id: bytes, tree: rows.TreeRow, keys: Iterable[str]) -> Plan:
    """Bring the links of `keys` in line with what the snapshot has. Raises CorruptRecord."""
    return _Planning(reader, bucket_id, tree).run(keys)


class _Planning:
    def __init__(self, reader: Reader, bucket_id: bytes, tree: rows.TreeRow) -> None:
        self._reader = reader
        self._bucket_id = bucket_id
        self._folders = Folders(reader, bucket_id, Cid(tree.root))
        self._plan = Plan(Cid(tree.root), tree.total, 0)
        # By depth and folder: entries that change; of those that are folders: was one, is one.
        self._changes: dict[int, dict[str, dict[str, Link | None]]] = {}
        self._below: dict[str, dict[str, tuple[bool, bool]]] = {}

    def run(self, keys: Iterable[str]) -> Plan:
        """See `plan`."""
        for key in keys:
            place = split(key)
            if place is not None:
                self._note(*place, file_link(self._reader, self._bucket_id, key))
        for depth in range(max(self._changes, default=-1), -1, -1):
            for folder, changes in self._changes.pop(depth, {}).items():
                self._update(folder, changes)
        assert not self._plan.blocks.keys() & self._plan.gone.keys(), "no block is new and gone"
        return self._plan

    def _note(self, folder: str, name: str, link: Link | None) -> None:
        self._changes.setdefault(folder.count("/"), {}).setdefault(folder, {})[name] = link

    def _update(self, folder: str, changes: dict[str, Link | None]) -> None:
        """Change a directory; what it becomes is a change of the one above it."""
        named = rows.folder_id(folder)
        old = self._folders.folder(folder)
        below = self._below.pop(folder, {})
        weight = self._folders.weight(named)

        def load(cid: Cid) -> bytes:
            return EMPTY.blocks[0][1] if old is None else self._folders.load(named, cid)

        made = directory.update(old or EMPTY.root, changes, load, weight)
        hidden = [
            name
            for name, link in made.replaced.items()
            if name not in below and self._folders.is_folder(link.cid, f"{folder}{name}/")
        ]
        if hidden:  # objects with the name of a folder
            changes = {name: link for name, link in changes.items() if name not in hidden}
            made = directory.update(old or EMPTY.root, changes, load, weight)
        for name, link in changes.items():
            was, now = below.get(name, (False, False))
            self._plan.files += (link is not None and not now) - (name in made.replaced and not was)
        heavy = made.weight is not None and made.weight > directory.BLOCK_BYTES_MAX
        if heavy or weight is not None:
            self._plan.weights[named] = made.weight if heavy else None
        if old is not None:
            for cid in made.gone:
                self._plan.gone[named, cid] = len(self._folders.load(named, cid))
        if folder and made.empty:
            self._hand_up(folder, None, was=old is not None)
            return
        self._plan.blocks.update({(named, cid): block for cid, block in made.blocks})
        if not folder:
            self._plan.root, self._plan.total = made.root, made.total
        else:
            self._hand_up(folder, Link(made.root, "", made.total), was=old is not None)

    def _hand_up(self, folder: str, link: Link | None, *, was: bool) -> None:
        """Tell the directory above."""
        if link is None and not was:
            return
        above, name = parent(folder)
        self._below.setdefault(above, {})[name] = was, link is not None
        if link is None:  # an object of the name comes to light
            link = file_link(self._reader, self._bucket_id, folder[:-1])
        self._note(above, name, link)
