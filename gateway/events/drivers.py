"""Which driver serves a configured target. A broker's adapter gets its line here."""

from gateway.events.places import Webhook
from gateway.events.target import Target
from gateway.events.webhook import WebhookTarget


def open_target(place: Webhook) -> Target:
    """The target of a `[notify]` table. Raises OSError."""
    return WebhookTarget(place)
