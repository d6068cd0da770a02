"""Figures of a running network, as /metrics tells them."""

import asyncio
import re

from gateway.health import fetch


def repairs(console: str | None, figure: str) -> int:
    """A figure of repair: pending_fragments, crowded_fragments, rebuilt_fragments_total."""
    assert console is not None
    status, text = asyncio.run(fetch(console, "/metrics"))
    assert status == 200
    (line,) = re.findall(rf"^cumulus_repair_{figure} (\S+)$", text.decode(), re.MULTILINE)
    return int(float(line))
