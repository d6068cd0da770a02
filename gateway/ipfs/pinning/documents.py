"""The pinning service's documents and queries, parsed and written. Pure.

Bounds are the specification's own; what it does not bound is bounded by BODY_BYTES_MAX.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from chain.cids import Cid, InvalidCid

STATUSES = ("queued", "pinning", "pinned", "failed")
BODY_BYTES_MAX = 256 << 10
QUERY_BYTES_MAX = 32 << 10
NAME_MAX = 255
ORIGINS_MAX = 20
META_MAX = 1000
CIDS_MAX = 10
LIMIT, LIMIT_MAX = 10, 1000
_SURROGATES = re.compile("[\ud800-\udfff]")
_MATCHES = ("exact", "iexact", "partial", "ipartial")
# Without one of these or a status, a list shows what is pinned.
_NARROWING = {"cid", "name", "meta"}
_QUERY = {"cid", "name", "match", "status", "before", "after", "limit", "meta"}


class BadDocument(ValueError):
    """What came is not what the specification says; the text goes to the client."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Pin object: what a client wants to have pinned."""

    cid: Cid
    name: str = ""
    origins: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests a list shows."""

    cids: frozenset[Cid] = frozenset()
    name: str = ""
    match: str = "exact"
    statuses: frozenset[str] = frozenset({"pinned"})
    before_ns: int | None = None
    after_ns: int | None = None
    limit: int = LIMIT
    meta: Mapping[str, str] = field(default_factory=dict)

    def shows(self, wanted: Wanted, status: str, created_ns: int) -> bool:
        """Whether a request is in the list."""
        return (
            status in self.statuses
            and (not self.cids or wanted.cid in self.cids)
            and (self.before_ns is None or created_ns < self.before_ns)
            and (self.after_ns is None or created_ns > self.after_ns)
            and (not self.name or self._named(wanted.name))
            and self.meta.items() <= wanted.meta.items()
        )

    def _named(self, name: str) -> bool:
        ours = self.name
        if self.match.startswith("i"):
            name, ours = name.casefold(), ours.casefold()
        return ours in name if self.match.endswith("partial") else ours == name


def parse_pin(body: bytes) -> Wanted:
    """A Pin object. Raises BadDocument."""
    value = _object(body, "the body")
    try:
        cid = Cid.parse(_text(value.get("cid"), "cid"))
    except InvalidCid as error:
        raise BadDocument(f"cid: {error}") from None
    name = _text(value.get("name") or "", "name")
    if len(name) > NAME_MAX:
        raise BadDocument(f"name has at most {NAME_MAX} characters")
    origins = value.get("origins") or []
    if not isinstance(origins, list) or len(origins) > ORIGINS_MAX:
        raise BadDocument(f"origins is a list of at most {ORIGINS_MAX} addresses")
    return Wanted(
        cid, name, tuple(_text(each, "origins") for each in origins), _meta(value.get("meta"))
    )


def parse_filter(query: bytes) -> Filter:
    """The query of a list. Raises BadDocument."""
    given = _pairs(query)
    wrong = given.keys() - _QUERY
    if wrong:
        raise BadDocument(f"{min(wrong)[:40]!r} is no parameter of a list")
    match = given.get("match", "exact")
    if match not in _MATCHES:
        raise BadDocument(f"match is one of {', '.join(_MATCHES)}")
    default = ",".join(STATUSES) if given.keys() & _NARROWING else "pinned"
    statuses = frozenset(given.get("status", default).split(","))
    if not statuses <= set(STATUSES):
        raise BadDocument(f"status is some of {', '.join(STATUSES)}")
    limit = given.get("limit", str(LIMIT))
    if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= LIMIT_MAX:
        raise BadDocument(f"limit is a number from 1 to {LIMIT_MAX}")
    name = given.get("name", "")
    if len(name) > NAME_MAX:
        raise BadDocument(f"name has at most {NAME_MAX} characters")
    return Filter(
        _cids(given.get("cid", "")),
        name,
        match,
        statuses,
        _time(given.get("before"), "before"),
        _time(given.get("after"), "after"),
        int(limit),
        _meta(_object(given["meta"].encode(), "meta")) if "meta" in given else {},
    )


def status_object(
    id: str, wanted: Wanted, status: str, created_ns: int, reason: str, delegate: str
) -> dict[str, Any]:
    """A PinStatus object. `delegate`: one is required, though nobody connects here by libp2p."""
    pin: dict[str, Any] = {"cid": str(wanted.cid)}
    if wanted.name:
        pin["name"] = wanted.name
    if wanted.origins:
        pin["origins"] = list(wanted.origins)
    if wanted.meta:
        pin["meta"] = dict(wanted.meta)
    return {
        "requestid": id,
        "status": status,
        "created": time_text(created_ns),
        "pin": pin,
        "delegates": [delegate],
        "info": {"status_details": reason} if reason else {},
    }


def results_object(count: int, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A PinResults object. `count`: of all that match."""
    return {"count": count, "results": list(results)}


def error_object(reason: str, details: str) -> dict[str, Any]:
    """A Failure object."""
    return {"error": {"reason": reason, "details": details}}


def time_text(ns: int) -> str:
    """2026-01-31T12:00:00.123456Z: microseconds, so that `before` finds what lies before."""
    whole, rest = divmod(ns, 10**9)
    moment = datetime.fromtimestamp(whole, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _pairs(query: bytes) -> dict[str, str]:
    if len(query) > QUERY_BYTES_MAX:
        raise BadDocument("the query is too long")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, max_num_fields=64, errors="strict"
        )
    except ValueError:
        raise BadDocument("the query is not UTF-8, or has too many fields") from None
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given and name not in ("cid", "status"):
            raise BadDocument(f"{name[:40]!r} comes twice")
        given[name] = f"{given[name]},{value}" if name in given else value
    return given


def _cids(text: str) -> frozenset[Cid]:
    parts = text.split(",") if text else []
    if len(parts) > CIDS_MAX:
        raise BadDocument(f"cid names at most {CIDS_MAX}")
    try:
        return frozenset(Cid.parse(part) for part in parts)
    except InvalidCid as error:
        raise BadDocument(f"cid: {error}") from None


def _time(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadDocument(f"{name} is a time as in RFC 3339") from None
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


def _object(body: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise BadDocument(f"{name} is not JSON") from None
    if not isinstance(value, dict):
        raise BadDocument(f"{name} is a JSON object")
    return value


def _meta(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > META_MAX:
        raise BadDocument(f"meta is an object of at most {META_MAX} texts")
    return {_text(name, "meta"): _text(each, "meta") for name, each in value.items()}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or _SURROGATES.search(value):
        raise BadDocument(f"{name} is a text")
    return value
