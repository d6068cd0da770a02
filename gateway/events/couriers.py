"""All couriers of a network: one for each configured place."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from chain.clock import Clock
from gateway.catalog.interface import Catalog
from gateway.events.courier import Courier, Pace
from gateway.events.drivers import open_target
from gateway.events.message import message_of
from gateway.events.places import Webhook
from gateway.events.queues import NOTIFICATIONS, Queue
from gateway.events.target import Target
from gateway.records import EventRow

# (name, endless work): runs it again after a failure (gateway/nodes/parts.py).
Steadily = Callable[[str, Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]]


def courier_of(catalog: Catalog, name: str, target: Target, clock: Clock) -> Courier[EventRow]:
    """Of a target's notifications."""

    async def deliver(rows: Sequence[EventRow]) -> None:
        await target.deliver([message_of(row) for row in rows])

    queue = Queue(catalog, NOTIFICATIONS, name, EventRow)
    return Courier(queue, deliver, clock, Pace(batch=target.batch))


async def _serve(catalog: Catalog, name: str, place: Webhook, clock: Clock) -> None:
    target = open_target(place)
    try:
        await courier_of(catalog, name, target, clock).run()
    finally:
        await target.close()


async def notify(
    catalog: Catalog, places: Mapping[str, Webhook], clock: Clock, steadily: Steadily
) -> None:
    """Deliver notifications to every configured target until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())  # also without any
        for name, place in places.items():
            work = partial(_serve, catalog, name, place, clock)
            group.create_task(steadily(f"notifications to {name}", work))
