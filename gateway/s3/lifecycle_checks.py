"""What lifecycle rules must not say together, in S3's words. Pure."""

from itertools import combinations, pairwise

from gateway.errors import InvalidArgument, InvalidRequest
from gateway.lifecycle.rules import Rule

ACTIONS = (
    "Expiration",
    "Transition",
    "NoncurrentVersionExpiration",
    "NoncurrentVersionTransition",
    "AbortIncompleteMultipartUpload",
)


def check_forms(rules: tuple[Rule, ...]) -> None:
    """Old and new forms together, and the old one's prefixes. Raises InvalidRequest."""
    for before, rule in pairwise(rules):
        if rule.legacy and not before.legacy:
            raise InvalidRequest(
                "Base level prefix cannot be used in Lifecycle V2, prefixes are only supported in "
                "the Filter."
            )
        if before.legacy and not rule.legacy:
            raise InvalidRequest("Filter element can only be used in Lifecycle V2.")
    for one, other in combinations([rule for rule in rules if rule.legacy], 2):
        first, second = one.filter.prefix or "", other.filter.prefix or ""
        for action in _actions(one) & _actions(other):
            if first.startswith(second) or second.startswith(first):
                raise InvalidRequest(
                    f"Found overlapping prefixes '{first}' and '{second}' for same action type "
                    f"'{action}'"
                )


def _actions(rule: Rule) -> set[str]:
    present = (rule.expiration, rule.transitions, rule.noncurrent, rule.noncurrent_transitions,
               rule.abort_days)  # fmt: skip
    return {name for name, value in zip(ACTIONS, present, strict=True) if value not in (None, ())}


def check_rule(rule: Rule) -> None:
    """What a rule's parts may not be together. Raises InvalidRequest, InvalidArgument."""
    if not _actions(rule):
        raise InvalidRequest("At least one action needs to be specified in a rule")
    chosen = rule.filter
    kinds = (("Tags", chosen.tagged), ("Object Size", chosen.sized))
    marker = rule.expiration is not None and rule.expiration.marker is not None
    aborts = rule.abort_days is not None
    for action, there in (
        ("AbortIncompleteMultipartUpload", aborts),
        ("ExpiredObjectDeleteMarker", marker),
    ):
        for kind, asked in kinds:
            if there and asked:
                raise InvalidRequest(f"{action} cannot be specified with {kind}.")
    newer = (rule.noncurrent, *rule.noncurrent_transitions)
    if rule.legacy and any(each is not None and each.newer is not None for each in newer):
        raise InvalidRequest("NewerNoncurrentVersions element can only be used in Lifecycle V2.")
    _check_transitions(rule)


def _check_transitions(rule: Rule) -> None:
    where = f"'(prefix={rule.filter.prefix or ''})'"
    for kind, classes in (
        ("Transition", [each.storage_class for each in rule.transitions]),
        (
            "NoncurrentVersionTransition",
            [each.storage_class for each in rule.noncurrent_transitions],
        ),
    ):
        if len(set(classes)) < len(classes):
            raise InvalidArgument(
                f"'StorageClass' must be different for '{kind}' actions in same 'Rule' with "
                f"filter {where}"
            )
    gone = rule.expiration
    days = [each.days for each in rule.transitions if each.days is not None]
    dates = [each.date_ns for each in rule.transitions if each.date_ns is not None]
    if gone is not None:
        if (days and gone.date_ns is not None) or (dates and gone.days is not None):
            raise _mixed(where)
        if gone.days is not None and any(each >= gone.days for each in days):
            raise InvalidArgument(
                f"'Days' in the Expiration action for filter {where} must be greater than 'Days' "
                "in the Transition action"
            )
        if gone.date_ns is not None and any(each >= gone.date_ns for each in dates):
            raise InvalidArgument(
                f"'Date' in the Expiration action for filter {where} must be later than 'Date' in "
                "the Transition action"
            )
    if days and dates:
        raise _mixed(where)
    if rule.noncurrent is not None and any(
        each.days >= rule.noncurrent.days for each in rule.noncurrent_transitions
    ):
        raise InvalidArgument(
            "'NoncurrentDays' in the NoncurrentVersionExpiration action for filter "
            f"{where} must be greater than 'NoncurrentDays' in the NoncurrentVersionTransition "
            "action"
        )


def _mixed(where: str) -> InvalidRequest:
    return InvalidRequest(
        "Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule "
        f"for filter {where}"
    )
