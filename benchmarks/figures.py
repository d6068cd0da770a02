"""A measured figure beside its bar, for rows that are not one S3 operation's CPU."""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One line: good when `value` <= `bar`, or >= where `at_least`."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar, if there is one, is met."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def tell(self) -> "Figure":
        """Print it."""
        sign = ">=" if self.at_least else "<="
        bar = "" if self.bar is None else f"bar {sign} {self.bar:g}"
        missed = "" if self.met else "MISSED"
        print(
            f"{self.name:<44}{self.value:>12.3f} {self.unit:<10}{bar:<16}{missed:<8}{self.note}",
            flush=True,
        )
        return self

    def fields(self) -> dict[str, object]:
        """As JSON."""
        return {**asdict(self), "met": self.met}


def command(text: str, quick: str, measure: Callable[..., list[Figure]]) -> int:
    """A section as a command of its own; `quick` says what that option does."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cumulus-bench-") as name:
        found = measure(Path(name) / "network", quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps([one.fields() for one in found], indent=1) + "\n")
    return 0
