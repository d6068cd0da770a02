"""The table of commands. A family of commands adds its own table here."""

from collections.abc import Mapping

from gateway.ipfs.api import node
from gateway.ipfs.api.app import Handler

COMMANDS: Mapping[str, Handler] = {
    **node.COMMANDS,
    # names: key/*, name/*
}
