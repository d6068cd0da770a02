"""Whether a record on the disk still is what was written: read past the page cache, hashed in
pieces. 0.3-0.8 CPU s/GiB of large fragments, 85-115 µs a small one (benchmarks/volume.py).
"""

import mmap
import threading

from blake3 import blake3

from miner.fragment import FragmentRecord, InvalidFragment
from miner.store.files import VolumeFile
from miner.store.index import Place
from miner.store.layout import BLOCK, HEAD_MAX, Kind, align, parse_record
from miner.store.volume import Volume

_PIECE = 1024**2
assert _PIECE >= HEAD_MAX + BLOCK  # a record's head lies in the first piece


class Checker:
    """Reads records back. Blocking; for any number of threads, each with a buffer of its own."""

    def __init__(self) -> None:
        self._local = threading.local()

    def is_whole(self, volume: Volume, key: bytes, place: Place) -> bool:
        """Whether head and payload are those of fragment `key`. Raises OSError."""
        start = place.offset // BLOCK * BLOCK
        end = align(place.payload + place.size)
        piece = self._read(volume.file, start, end)
        skip = place.offset - start
        head = parse_record(bytes(piece[skip : skip + place.head]), place.offset, volume.key)
        if head is None or head.kind is not Kind.FRAGMENT or head.size != place.size:
            return False
        try:
            record = FragmentRecord.parse(head.description)
        except InvalidFragment:
            return False
        if record.key != key or record.id != place.id:
            return False
        return self._digest(volume.file, place, piece, start, end) == place.id

    def _digest(
        self, file: VolumeFile, place: Place, piece: memoryview, start: int, end: int
    ) -> bytes:
        hasher, skip, left = blake3(), place.payload - start, place.size
        while left:
            part = piece[skip : skip + left]
            if not part:
                break  # the file ends here
            hasher.update(part)
            left -= len(part)
            start, skip = start + len(piece), 0
            if left:
                piece = self._read(file, start, end)
        return hasher.digest()

    def _read(self, file: VolumeFile, start: int, end: int) -> memoryview:
        if not hasattr(self._local, "view"):
            self._local.view = memoryview(mmap.mmap(-1, _PIECE))
        view: memoryview = self._local.view[: min(_PIECE, end - start)]
        return view[: file.read_disk(view, start)]
