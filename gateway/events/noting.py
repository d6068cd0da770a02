"""Noting events in the commit that causes them. Called for watched buckets alone."""

import msgspec

from gateway.catalog.interface import Space
from gateway.events import queues
from gateway.events.origin import Origin, current_origin
from gateway.events.rules import TEST_EVENT, Change, NotificationRule, event_of, kept_rules
from gateway.model import KMS_ALGORITHMS, NOTIFICATION, REPLICATION, Bucket, Extra
from gateway.records import (
    EventRow,
    ReplicaRow,
    SettingsRow,
    VersionRow,
    decode_kept,
    encode,
    settings_key,
)
from gateway.replication.rules import (
    FAILED,
    REPLICA,
    SENT_AGAIN,
    ReplicationRule,
    chosen,
    kept_replication,
    pending,
)
from gateway.store import Store
from gateway.transaction import Transaction

# What a change gives an endpoint to do; a version that is removed for good stays there.
_REPLICATED = {Change.CREATED: "put", Change.MARKED: "marker", Change.AMENDED: "tags"}
_TAGGING = frozenset({"PutObjectTagging", "DeleteObjectTagging"})


def note(
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: str,
    row: VersionRow,
    change: Change,
) -> VersionRow:
    """Append what a change of a version gives others to do to their queues.

    The version as it is to be stored: it says whether it waits for its replication.
    """
    raw = transaction.reader.get(Space.META, settings_key(bucket.id))
    values = {} if raw is None else decode_kept(SettingsRow, raw).values
    if (stored := values.get(NOTIFICATION)) is not None:
        _notify(store, transaction, bucket, key, row, change, kept_rules(stored))
    if (stored := values.get(REPLICATION)) is not None:
        rules = kept_replication(stored).rules
        return _replicate(store, transaction, bucket, key, row, change, rules)
    return row


def _notify(  # noqa: PLR0917 - one caller
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: str,
    row: VersionRow,
    change: Change,
    rules: tuple[NotificationRule, ...],
) -> None:
    origin = current_origin.get()
    event = event_of(change, origin.operation)
    if event is None:
        return
    for rule in rules:
        if rule.wants(event, key):
            noted = _noted(store, bucket, key, row, change, event, rule, origin)
            _append(store, transaction, rule.target, noted)


def _replicate(  # noqa: PLR0917 - one caller
    store: Store,
    transaction: Transaction,
    bucket: Bucket,
    key: str,
    row: VersionRow,
    change: Change,
    rules: tuple[ReplicationRule, ...],
) -> VersionRow:
    origin, extra = current_origin.get(), row.extra or Extra()
    event = _REPLICATED.get(change)
    if event == "tags" and origin.operation == SENT_AGAIN:
        event = "put"
    if event == "tags" and origin.operation not in _TAGGING:
        return row
    if event is None or origin.replica or extra.replication == REPLICA:
        return row
    encryption = extra.encryption
    if origin.operation.startswith("Lifecycle") or (encryption and encryption.customer):
        return row
    wanted = chosen(rules, key, row.tags)
    if encryption and encryption.algorithm in KMS_ALGORITHMS:
        wanted = [rule for rule in wanted if rule.kms]
    if event == "marker":
        wanted = [rule for rule in wanted if rule.delete_markers]
    queued = [
        queues.append(
            transaction,
            queues.REPLICATIONS,
            rule.endpoint,
            encode(
                ReplicaRow(
                    event,
                    bucket.name,
                    key,
                    store.clock.now_ns(),
                    bucket.id,
                    row.version,
                    rule.target,
                    rule.storage_class,
                    rule.kms_key,
                )
            ),
            store.settings.queue_max,
        )
        for rule in wanted
    ]
    if event != "put" or not wanted:
        return row
    state = pending(len(wanted)) if all(queued) else FAILED
    return msgspec.structs.replace(row, extra=msgspec.structs.replace(extra, replication=state))


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
    own = change in (Change.CREATED, Change.MARKED)
    return EventRow(
        event=event,
        bucket=bucket.name,
        key=key,
        time_ns=now,
        # Removals and amendments come behind what they change.
        sequence=row.sequence if own else max(now, row.sequence + 1),
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
