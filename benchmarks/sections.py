"""The parts of `make bench` that are not rows of S3 operations; each runs alone too."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import ipfs, ledger, memory, repair, scale, tail
from benchmarks.figures import Figure

SECTIONS: dict[str, Callable[..., list[Figure]]] = {
    "ledger": ledger.measure,
    "repair": repair.measure,
    "tail": tail.measure,
    "memory": memory.measure,
    "scale": scale.measure,
    "ipfs": ipfs.measure,
}


def run_sections(words: Sequence[str], *, quick: bool) -> dict[str, list[dict[str, object]]]:
    """Those that one of `words` names, all without words; their figures as JSON."""
    found = {}
    for name, measure in SECTIONS.items():
        if words and not any(word in name for word in words):
            continue
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="cumulus-bench-") as folder:
            found[name] = [one.fields() for one in measure(Path(folder), quick=quick)]
    return found
