"""Who causes a change: it travels beside the call, as the request's id does.

The object path does not ask who wants a change. Events tell it, so the front end says it for
requests of watched buckets, and background work for its own changes.
"""

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import TypeVar

import msgspec

T = TypeVar("T")


class Origin(msgspec.Struct, frozen=True):
    """The cause of changes."""

    operation: str = ""  # by S3's name, LifecycleExpiration, LifecycleTransition; "": a plain write
    principal: str = ""  # account id
    address: str = ""  # the client's
    request_id: str = ""
    host_id: str = ""
    replica: bool = False  # a replication elsewhere makes it: it is not replicated again


_NOBODY = Origin()
current_origin: ContextVar[Origin] = ContextVar("current_origin", default=_NOBODY)


async def caused_by(origin: Origin, work: Awaitable[T]) -> T:
    """Await `work`; the changes that it makes are caused by `origin`."""
    token = current_origin.set(origin)
    try:
        return await work
    finally:
        current_origin.reset(token)
