"""Listening sockets: opened once by the supervisor, served by every worker.

The accept queue lives as long as the supervisor, so a restarted worker loses no connection, and
port 0 gives one port to all workers.
"""

import errno
import ipaddress
import os
import socket
from dataclasses import dataclass

from gateway.config import Config, ConfigError, flag_of

BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound, listening socket of one face (`s3`, `ipfs`, `ipfs_api`, `console`)."""

    face: str
    socket: socket.socket
    url: str


# The faces that this version serves; the others accept their options and open nothing.
FACES = {
    "s3": "s3_port",
    "ipfs": "ipfs_port",
    "ipfs_api": "ipfs_api_port",
    "console": "console_port",
}


def open_listeners(config: Config) -> list[Listener]:
    """All of them or none. Raises ConfigError with what to do about a port in use."""
    opened: list[Listener] = []
    try:
        for face, setting in FACES.items():
            opened.append(_open(config, face, setting))
    except ConfigError:
        for listener in opened:
            listener.socket.close()
        raise
    return opened


def is_loopback(listener: socket.socket) -> bool:
    """Whether only programs of this machine reach it."""
    host = str(listener.getsockname()[0]).partition("%")[0]
    return ipaddress.ip_address(host).is_loopback


def _open(config: Config, face: str, setting: str) -> Listener:
    port = getattr(config, setting)
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            config.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"--host {config.host}: no such address") from None
    listener = socket.socket(family, kind, proto)
    try:
        # Over the remains of closed connections only: never SO_REUSEPORT, which would let two
        # networks share a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(_why(config, setting, error)) from None
    return Listener(face, listener, _url(config, listener))


def _why(config: Config, setting: str, error: OSError) -> str:
    port, flag = getattr(config, setting), flag_of(setting)
    if error.errno == errno.EADDRINUSE:
        return f"{flag} {port}: port in use on {config.host}; choose another with {flag} PORT"
    if error.errno == errno.EACCES:
        return f"{flag} {port}: ports below 1024 need more rights; choose a higher one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {config.host}: this machine has no such address"
    return f"{flag} {port}: {os.strerror(error.errno or 0)}"


def _url(config: Config, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # A wildcard address is for listening; people need one to connect to.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    shown = f"[{reachable}]" if ":" in reachable else reachable
    return f"{'https' if config.secure else 'http'}://{shown}:{port}"
