"""The table of commands. A family of commands adds its own table here."""

from collections.abc import Mapping

from gateway.ipfs.api import (
    adding,
    archive,
    blocks,
    cids,
    dag,
    files,
    naming,
    node,
    pinning,
    reading,
)
from gateway.ipfs.api.app import Handler

COMMANDS: Mapping[str, Handler] = {
    **node.COMMANDS,
    **adding.COMMANDS,
    **reading.COMMANDS,
    **blocks.COMMANDS,
    **files.COMMANDS,
    **naming.COMMANDS,
    **archive.COMMANDS,
    **dag.COMMANDS,
    **pinning.COMMANDS,
    **cids.COMMANDS,
}
