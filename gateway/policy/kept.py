"""Stored policies, parsed once: they hardly ever change, and are asked at every request."""

import logging
from functools import lru_cache

from gateway.policy.document import (
    ANYBODY,
    Kind,
    MalformedPolicy,
    Policy,
    PolicyTooLarge,
    Statement,
    parse_policy,
)

log = logging.getLogger(__name__)
# What stands for a policy that cannot be read: its owner may still replace it.
_DENY_ALL = Policy(
    (Statement(False, frozenset({ANYBODY}), ("*",), ("*",), sid="unreadable policy"),)
)


@lru_cache(maxsize=1024)
def kept_policy(document: bytes, kind: Kind = Kind.RESOURCE) -> Policy:
    """A stored policy; one that this release does not understand (of a later one) denies all."""
    try:
        return parse_policy(document, kind)
    except (MalformedPolicy, PolicyTooLarge) as problem:
        log.warning("a stored policy cannot be read and denies everything: %s", problem)
        return _DENY_ALL
