"""A bucket's lifecycle rules and what they make of a version at a time. Pure.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ "Lifecycle configuration elements",
"How long an object has been noncurrent", "Managing conflicting lifecycle rules".
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

LIFECYCLE = "lifecycle"  # the setting
DAY_NS = 86_400 * 10**9
# What moves when a rule does not speak of size, as x-amz-transition-default-… says; "": everything.
MINIMUM_ALL, MINIMUM_VARIES = "all_storage_classes_128K", "varies_by_storage_class"
_SMALL = 128 << 10
_NO_TAGS: Mapping[str, str] = {}


class Filter(msgspec.Struct, frozen=True, array_like=True):
    """Which versions a rule is about: those that fulfil all of it; an empty one: all."""

    prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    above: int | None = None  # bytes, exclusive
    below: int | None = None  # bytes, exclusive
    joined: bool = False  # it was said as And
    also: "Filter | None" = None  # what an And beside it says

    @property
    def sized(self) -> bool:
        """Whether it speaks of sizes."""
        return (
            self.above is not None
            or self.below is not None
            or (self.also is not None and self.also.sized)
        )

    @property
    def tagged(self) -> bool:
        """Whether it speaks of tags."""
        return bool(self.tags) or (self.also is not None and self.also.tagged)

    def untagged(self) -> "Filter":
        """The rest of it."""
        return replace(self, tags=(), also=None if self.also is None else self.also.untagged())

    def covers_key(self, key: str) -> bool:
        """Whether its prefixes are this key's."""
        return key.startswith(self.prefix or "") and (
            self.also is None or self.also.covers_key(key)
        )

    def covers(self, key: str, size: int, tags: Mapping[str, str]) -> bool:
        """Whether a version is meant."""
        return (
            key.startswith(self.prefix or "")
            and (self.above is None or size > self.above)
            and (self.below is None or size < self.below)
            and all(tags.get(name) == value for name, value in self.tags)
            and (self.also is None or self.also.covers(key, size, tags))
        )


class Expiration(msgspec.Struct, frozen=True, array_like=True):
    """Of the latest version: one of the three."""

    days: int | None = None
    date_ns: int | None = None
    marker: bool | None = None  # delete markers that hide nothing


class Noncurrent(msgspec.Struct, frozen=True, array_like=True):
    """Of versions that are not the latest any more."""

    days: int
    newer: int | None = None  # so many of them newer than it are left alone
    storage_class: str = ""  # where to; empty: away


class Transition(msgspec.Struct, frozen=True, array_like=True):
    """Of the latest version, to another storage class."""

    storage_class: str
    days: int | None = None
    date_ns: int | None = None


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """One rule."""

    id: str
    enabled: bool
    filter: Filter
    legacy: bool = False  # its prefix was said beside a Filter's place
    expiration: Expiration | None = None
    transitions: tuple[Transition, ...] = ()
    noncurrent: Noncurrent | None = None
    noncurrent_transitions: tuple[Noncurrent, ...] = ()
    abort_days: int | None = None


class Lifecycle(msgspec.Struct, frozen=True, array_like=True):
    """A bucket's configuration, as it is stored."""

    rules: tuple[Rule, ...]
    minimum: str = ""


_decode = msgspec.msgpack.Decoder(Lifecycle).decode


@lru_cache(maxsize=256)
def kept_lifecycle(stored: bytes) -> Lifecycle:
    """A stored configuration: it hardly ever changes and is asked for at every request."""
    return _decode(stored)


class Calendar(NamedTuple):
    """How long a day is; a whole one ends at midnight UTC."""

    day_ns: int = DAY_NS

    def after(self, moment_ns: int, days: int) -> int:
        """`days` later, up to the next midnight. Days that are no days do not wait for it."""
        later = moment_ns + days * self.day_ns
        return -(-later // DAY_NS) * DAY_NS if self.day_ns == DAY_NS else later

    def number(self, moment_ns: int) -> int:
        """Which day it is."""
        return moment_ns // self.day_ns

    def next_day(self, moment_ns: int) -> int:
        """When the next one begins."""
        return (self.number(moment_ns) + 1) * self.day_ns


WHOLE_DAYS = Calendar()


class Facts(NamedTuple):
    """What rules ask of a version. A delete marker has no bytes and no tags."""

    key: str
    size: int = 0
    tags: Mapping[str, str] = _NO_TAGS
    modified_ns: int = 0
    storage_class: str = "STANDARD"


class Due(NamedTuple):
    """When something is due, and by which rule."""

    when_ns: int
    rule: str


class Plan:
    """A configuration under a calendar."""

    def __init__(self, lifecycle: Lifecycle, calendar: Calendar) -> None:
        self._calendar = calendar
        self._minimum = lifecycle.minimum
        self._rules = [rule for rule in lifecycle.rules if rule.enabled]
        self.asks_tags = any(rule.filter.tagged for rule in self._rules)
        self.moves = any(rule.transitions or rule.noncurrent_transitions for rule in self._rules)

    @cached_property
    def untagged(self) -> "Plan":
        """As if no rule asked for tags: what this does not let go, they do not either."""
        if not self.asks_tags:
            return self
        rules = tuple(replace(rule, filter=rule.filter.untagged()) for rule in self._rules)
        return Plan(Lifecycle(rules, self._minimum), self._calendar)

    def expiration(self, facts: Facts) -> Due | None:
        """When the latest version goes: the first of what the rules say."""
        found: Due | None = None
        for rule in self._covering(facts):
            if rule.expiration is None or rule.expiration.marker is not None:
                continue
            when = self._when(facts, rule.expiration.days, rule.expiration.date_ns)
            if found is None or when < found.when_ns:
                found = Due(when, rule.id)
        return found

    def transition(self, facts: Facts, now_ns: int) -> str | None:
        """The storage class where the latest version should be and is not: the last one due."""
        return _last(
            facts,
            (
                (when, each.storage_class)
                for rule in self._covering(facts)
                for each in rule.transitions
                if (when := self._when(facts, each.days, each.date_ns)) <= now_ns
                and self._moves(rule, each.storage_class, facts.size)
            ),
        )

    def noncurrent(self, facts: Facts, since_ns: int, newer: int, now_ns: int) -> bool:
        """Whether a version goes that has not been the latest since `since_ns`.

        `newer`: so many others have not been so since later. Delete markers, too.
        """
        return any(
            rule.noncurrent is not None
            and newer >= (rule.noncurrent.newer or 0)
            and self._calendar.after(since_ns, rule.noncurrent.days) <= now_ns
            for rule in self._covering(facts)
        )

    def noncurrent_transition(
        self, facts: Facts, since_ns: int, newer: int, now_ns: int
    ) -> str | None:
        """As `transition`, of a version that is not the latest."""
        return _last(
            facts,
            (
                (when, each.storage_class)
                for rule in self._covering(facts)
                for each in rule.noncurrent_transitions
                if (when := self._calendar.after(since_ns, each.days)) <= now_ns
                and newer >= (each.newer or 0)
                and self._moves(rule, each.storage_class, facts.size)
            ),
        )

    def marker(self, facts: Facts, now_ns: int) -> bool:
        """Whether a delete marker goes that hides no version."""
        for rule in self._covering(facts):
            if rule.expiration is None:
                continue
            if rule.expiration.marker:
                return True
            days = rule.expiration.days
            if days is not None and self._calendar.after(facts.modified_ns, days) <= now_ns:
                return True
        return False

    def abort(self, key: str, started_ns: int) -> Due | None:
        """When a multipart upload is given up."""
        found: Due | None = None
        for rule in self._rules:
            if rule.abort_days is None or not rule.filter.covers_key(key):
                continue
            when = self._calendar.after(started_ns, rule.abort_days)
            if found is None or when < found.when_ns:
                found = Due(when, rule.id)
        return found

    def _covering(self, facts: Facts) -> Iterator[Rule]:
        for rule in self._rules:
            if rule.filter.covers(facts.key, facts.size, facts.tags):
                yield rule

    def _when(self, facts: Facts, days: int | None, date_ns: int | None) -> int:
        if date_ns is not None:
            return date_ns
        return self._calendar.after(facts.modified_ns, days or 0)

    def _moves(self, rule: Rule, storage_class: str, size: int) -> bool:
        """What is small stays, if that was asked for and the rule says nothing of sizes."""
        archive = self._minimum == MINIMUM_VARIES and storage_class in ("GLACIER", "DEEP_ARCHIVE")
        return not self._minimum or rule.filter.sized or archive or size >= _SMALL


def _last(facts: Facts, moves: Iterable[tuple[int, str]]) -> str | None:
    """The class of the last move (of several at once the first), unless it is there already."""
    found = max(moves, key=itemgetter(0), default=None)
    return found[1] if found is not None and found[1] != facts.storage_class else None


@lru_cache(maxsize=256)
def plan_of(stored: bytes, calendar: Calendar) -> Plan:
    """Of a stored configuration."""
    return Plan(kept_lifecycle(stored), calendar)
