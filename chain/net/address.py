"""Addresses between machines: `tcp://HOST:PORT`, for people also `HOST:PORT`, and with whose it is
`ID@HOST:PORT` (ID: the node's account id, 64 hexadecimal digits).
"""

import re

from chain.ids import AccountId, InvalidId, account_id
from chain.net.rpc import AddressError

# A name, an IPv4 address or a bracketed IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)
_WILDCARDS = ("0.0.0.0", "*", "[::]")  # noqa: S104 - compared only


def tcp_address(text: str) -> str:
    """`HOST:PORT` or `tcp://HOST:PORT` as `tcp://HOST:PORT`. Raises AddressError."""
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    known = host == "*" or _HOST.fullmatch(host)
    if not known or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise AddressError(f"{text!r:.80}: HOST:PORT is expected")
    return f"tcp://{host}:{int(port)}"


def split_identity(text: str) -> tuple[AccountId | None, str]:
    """`ID@HOST:PORT` or `HOST:PORT` as (identity, `tcp://HOST:PORT`). Raises AddressError."""
    words, at, place = text.removeprefix("tcp://").rpartition("@")
    try:
        return account_id(words) if at else None, tcp_address(place)
    except InvalidId as error:
        raise AddressError(f"{text!r:.160}: ID@HOST:PORT is expected, {error}") from None


def with_identity(identity: AccountId, address: str) -> str:
    """`ID@HOST:PORT`: what `--join` and `--origin` take."""
    return f"{identity.hex()}@{address.removeprefix('tcp://')}"


def is_everywhere(address: str) -> bool:
    """Whether it is for listening only: every address of the machine."""
    return address.removeprefix("tcp://").rpartition(":")[0] in _WILDCARDS


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a checked `tcp://` address, without brackets."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host.strip("[]"), int(port)


def advertised(listen: str, advertise: str) -> str:
    """The address to tell others, "" for the one that is served. Raises AddressError.

    Whoever listens everywhere must say which of the machine's addresses others reach.
    """
    if advertise:
        found = tcp_address(advertise)
        if is_everywhere(found):
            raise AddressError(f"--advertise {advertise}: others cannot reach that address")
        return found
    if listen.startswith("tcp://") and is_everywhere(listen):
        raise AddressError(
            f"--listen {listen} needs --advertise HOST:PORT, the address that others reach"
        )
    return ""
