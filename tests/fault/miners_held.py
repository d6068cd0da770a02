"""What the miners of a running network hold, by their own lists and their own disks."""

import asyncio
import json
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

from chain.net.nodes import NodeTransport
from chain.net.transport import Peer
from miner.fragment import FragmentRecord, fragment_key
from miner.protocol import CheckFragment, Inventory
from tests.clients.running import RunningNetwork

PAGE = 100


@dataclass
class Holdings:
    """Fragments by key (segment id and index), and the miners that hold them."""

    miners: dict[str, set[bytes]] = field(default_factory=dict)
    damaged: list[tuple[str, bytes]] = field(default_factory=list)
    wanted: set[bytes] = field(default_factory=set)

    def problems(self, staged: Set[bytes] = frozenset()) -> list[str]:
        """Fragments of known segments that nobody or more than one miner holds, and rotten ones.

        `staged` are those of writes that were refused: what there is of them stays for a day.
        """
        counts = Counter(key for keys in self.miners.values() for key in keys)
        found = [f"nobody holds {key.hex()}" for key in self.wanted - staged if not counts[key]]
        found += [f"{count} miners hold {key.hex()}" for key, count in counts.items() if count > 1]
        return found + [f"{key.hex()} is damaged at {name}" for name, key in self.damaged]

    @property
    def segments(self) -> int:
        """How many segments there are fragments of."""
        return len({key[:32] for key in self.wanted})


def holdings(network: RunningNetwork, *, check: bool = True) -> Holdings:
    """Ask every miner for its list; with `check` each fragment is read from the disk and hashed."""
    return asyncio.run(_holdings(network, check))


async def _holdings(network: RunningNetwork, check: bool) -> Holdings:
    run = Path(json.loads((network.data_dir / "run" / "network.json").read_text())["run_dir"])
    found, transport = Holdings(), NodeTransport()
    try:
        for name in sorted(p.removeprefix("miner-") for p in network.pids() if "miner-" in p):
            peer = transport.connect(f"ipc://{run}/miner-{name}.ipc")
            found.miners[name] = await _held(peer, name, found, check)
    finally:
        await transport.close()
    return found


async def _held(peer: Peer, name: str, found: Holdings, check: bool) -> set[bytes]:
    keys: set[bytes] = set()
    cursor = b""
    while page := (await peer.ask(Inventory(cursor, PAGE), timeout=20)).held:
        cursor = page[-1].key
        for held in page:
            keys.add(held.key)
            segment = FragmentRecord.parse(held.record).segment
            found.wanted.update(fragment_key(segment.id, n) for n in range(segment.profile.n))
            index = held.key[len(segment.id)]
            if check and not (await peer.ask(CheckFragment(segment.id, index), timeout=20)).whole:
                found.damaged.append((name, held.key))
    return keys
