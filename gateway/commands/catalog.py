"""`cumulus catalog salvage`: go on without the commits that a damaged log lost."""

import argparse

from gateway.commands.failures import Failed
from gateway.commands.options import Parsers, action, group
from gateway.commands.session import data_dir_of, show


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(
        parsers, "catalog", "mend a damaged catalog", "cumulus catalog salvage --data-dir ./data"
    )
    action(
        actions, "salvage", salvage, "go on without lost commits; stop the network first",
        "cumulus catalog salvage --data-dir ./data",
    )  # fmt: skip


def salvage(options: argparse.Namespace) -> int:
    """Read over the damage; a checkpoint behind it is what later starts begin with."""
    import lmdb

    from chain.format import StoreError
    from gateway.catalog.interface import CatalogDamaged, CatalogUnavailable
    from gateway.catalog.store import CatalogStore

    directory = data_dir_of(options) / "catalog"
    if not directory.exists():
        raise Failed(f"{directory}: no catalog")
    try:
        store = CatalogStore.open(directory, salvage=True)
        try:
            sequence = store.checkpoint()
        finally:
            store.close()
    except (StoreError, CatalogDamaged, CatalogUnavailable, OSError, lmdb.Error) as error:
        raise Failed(str(error)) from None
    return show(options, {"sequence": sequence}, lambda: f"goes on behind commit {sequence}")
