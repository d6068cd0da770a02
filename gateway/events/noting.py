"""Noting events in the commit that causes them. Called for watched buckets alone."""

from gateway.catalog.interface import Space
from gateway.events import queues
from gateway.events.origin import Origin, current_origin
from gateway.events.rules import TEST_EVENT, Change, NotificationRule, event_of, kept_rules
from gateway.model import NOTIFICATION, Bucket
from gateway.records import EventRow, SettingsRow, VersionRow, decode_kept, encode, settings_key
from gateway.store import Store
from gateway.transaction import Transaction


def note(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: str,
    row: VersionRow,
    change: Change,
) -> None:
    """Append the events of a change of a version to the queues of those who want them."""
    raw = transaction.reader.get(Space.META, settings_key(bucket.id))
    stored = None if raw is None else decode_kept(SettingsRow, raw).values.get(NOTIFICATION)
    if stored is None:
        return
    origin = current_origin.get()
    event = event_of(change, origin.operation)
    if event is None:
        return
    for rule in kept_rules(stored):
        if rule.wants(event, key):
            noted = _noted(store, bucket, key, row, change, event, rule, origin)
            _append(store, transaction, rule.target, noted)


def note_test(
    store: Store, transaction: Transaction, bucket: Bucket, rules: tuple[NotificationRule, ...]
) -> None:
    """s3:TestEvent for each target that a new configuration names."""
    origin = current_origin.get()
    for target in dict.fromkeys(rule.target for rule in rules):
        noted = EventRow(
            event=TEST_EVENT,
            bucket=bucket.name,
            key="",
            time_ns=store.clock.now_ns(),
            request_id=origin.request_id,
            host_id=origin.host_id,
        )
        _append(store, transaction, target, noted)


def _append(store: Store, transaction: Transaction, target: str, row: EventRow) -> None:
    queues.append(transaction, queues.NOTIFICATIONS, target, encode(row), store.settings.queue_max)


def _noted(  # noqa: PLR0917 - one caller
    store: Store,
    bucket: Bucket,
    key: str,
    row: VersionRow,
    change: Change,
    event: str,
    rule: NotificationRule,
    origin: Origin,
) -> EventRow:
    now = store.clock.now_ns()
    created = change is Change.CREATED
    return EventRow(
        event=event,
        bucket=bucket.name,
        key=key,
        time_ns=now,
        # Removals and amendments come behind what they change.
        sequence=row.sequence if created else max(now, row.sequence + 1),
        size=None if change in (Change.REMOVED, Change.MARKED) else row.size,
        etag="" if change in (Change.REMOVED, Change.MARKED) else row.etag,
        version=row.version,
        region=bucket.region,
        owner=bucket.owner.id,
        rule=rule.id,
        principal=origin.principal,
        address=origin.address,
        request_id=origin.request_id,
        host_id=origin.host_id,
    )
