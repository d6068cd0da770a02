"""Bounds of an HTTP server's connections."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of every connection. Bytes and seconds."""

    head_bytes: int = 64 << 10
    head_timeout: float = 30.0
    idle_timeout: float = 60.0
    # A body that we are ready to take must bring this many bytes a second over the window.
    body_rate: int = 1 << 10
    body_window: float = 30.0
    # A client that takes nothing of a reply for this long is cut off.
    write_timeout: float = 60.0
    # Body bytes held for an application that does not take them; reading pauses above.
    body_buffer: int = 1 << 20
    write_buffer: int = 1 << 20
    # A body nobody reads: what is left of it is discarded up to this, else the connection closes.
    drain_bytes: int = 256 << 10
    # After a closing reply: how long, and how much, the client may still send before the end.
    linger_seconds: float = 2.0
    linger_bytes: int = 16 << 20
    connections: int = 4096
    pipeline: int = 64
    # CONNECT opens a tunnel whose far end is this server, whatever it names: a client that uses a
    # gateway as its proxy speaks HTTP to it all the same.
    tunnels: bool = False
    # Less than chain/process.py STOP_SECONDS, which ends the process hard.
    shutdown: float = 6.0
    # How often all of these times are looked at.
    sweep: float = 1.0
