"""Opens a miner's store whose index is damaged, in processes that may die of it.

python flipped_index.py DIRECTORY SCRATCH FIRST LAST    for each seed: copy, damage, use, tell

One JSON line per seed: how each start ended (0 good, else a message or a signal) and how many
fragments read right at the last one.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path

from miner.store.volumes import VolumeStore
from tests.conformance.fragment_store_suite import FakeClock, fragments

COUNT, LENGTH, STARTS = 120, 9_000, 6
_SECONDS = 30


def open_store(directory: Path) -> VolumeStore:
    return VolumeStore.open(
        directory,
        pledge=64 << 20,
        clock=FakeClock(),
        entropy=random.Random(3).randbytes,
        volume_bytes=64 << 10,
    )


def damage(path: Path, seed: int) -> None:
    """Flip bits, or fill pages with noise or zeros."""
    chance = random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(len(data))
        kind = chance.random()
        if kind < 0.6:
            data[at] ^= 1 << chance.randrange(8)
        elif kind < 0.8:
            data[at : at + 8] = chance.randbytes(len(data[at : at + 8]))
        else:
            page = at // 4096 * 4096
            data[page : page + 4096] = chance.choice((bytes(4096), chance.randbytes(4096)))
    path.write_bytes(data)


async def use(directory: Path) -> int:
    """Read, find what is wrong, repair it, write and delete; how many read right at first."""
    store = open_store(directory)
    made = [fragments(str(number), LENGTH)[1][0] for number in range(COUNT)]
    wrong = set()
    for record, payload in made:
        try:
            right = bytes(await store.read(record.key, 0, record.size)) == bytes(payload)
        except Exception:  # noqa: BLE001 - an error is no wrong answer
            right = False
        if not right:
            wrong.add(record.key)
    store.in_place()
    named = set(await store.damaged([record.key for record, _ in made]))
    absent = {record.key for record, _ in made if store.find(record.key) is None}
    assert wrong == named | absent, "wrong bytes that no check finds"
    await store.drop_damaged(list(named))
    for each in made:
        await store.put(*each)
    for record, payload in made:
        assert bytes(await store.read(record.key, 0, record.size)) == bytes(payload)
    await store.drop([record.key for record, _ in made[::2]])
    await store.compact()
    await store.close()
    again = open_store(directory)
    assert again.space().fragments == COUNT // 2
    await again.close()
    return COUNT - len(wrong)


def start(directory: Path) -> str | int:
    """What became of a process that uses the store: how many fragments read right, or how it
    ended. A signal is what the kernel makes of a miner whose mapped index is rotten.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        signal.alarm(_SECONDS)
        try:
            said = str(asyncio.run(use(directory)))
        except BaseException:  # noqa: BLE001 - told to the parent
            said = "!" + traceback.format_exc(limit=-3)
        os.write(write, said.encode()[:4000])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return int(said) if said.isdigit() else said


def main() -> None:
    directory, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    for seed in range(int(sys.argv[3]), int(sys.argv[4])):
        copy = scratch / str(seed)
        shutil.copytree(directory, copy)
        damage(copy / "index" / "data.mdb", seed)
        ends: list[str | int] = []
        while len(ends) < STARTS and not (ends and isinstance(ends[-1], int)):
            (copy / "LOCK").unlink(missing_ok=True)
            ends.append(start(copy))
        shutil.rmtree(copy)
        sys.stdout.write(json.dumps([seed, ends]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
