"""DNSLink: domain names that lead to content. https://dnslink.dev/

`[ipfs.dnslinks]` names some; a resolver, where `[ipfs] dns_resolver` says one, the others: it asks
for the TXT records of `_dnslink.NAME` over HTTPS (application/dns-json), at most so many at a time,
and keeps answers, also that there is none, for their time.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from chain.clock import Clock
from gateway.ipfs.errors import IpfsError

KEPT_MAX = 4096
# Bounds of the time an answer is kept, whatever its TTL says; and for how long "none" is.
KEPT_LEAST, KEPT_LONGEST, NONE_KEPT = 5, 86_400, 60
# Questions on their way at once: whoever comes when all are has no answer.
_AT_ONCE = 16
_TXT, _NO_SUCH_DOMAIN = 16, 3
_MARK = "dnslink="

# GET of a URL: the body of a 200. Raises OSError.
Fetch = Callable[[str], Awaitable[bytes]]


class ResolverFailed(IpfsError):
    """The DNS resolver does not answer."""

    status = HTTPStatus.BAD_GATEWAY


@dataclass(frozen=True, slots=True)
class Link:
    """Where a domain name leads."""

    path: str  # /ipfs/… or /ipns/…
    ttl: int  # seconds; 0: not known


class DnsLinks:
    """The map, and a resolver if there is one."""

    def __init__(
        self,
        static: Mapping[str, str],
        clock: Clock,
        resolver: str = "off",
        fetch: Fetch | None = None,
    ) -> None:
        self._static = {name.lower().rstrip("."): path for name, path in static.items()}
        self._clock = clock
        self._resolver = resolver if resolver != "off" and fetch is not None else ""
        self._fetch = fetch
        self._kept: OrderedDict[str, tuple[float, Link | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[Link | ResolverFailed | None]] = {}

    async def link(self, name: str) -> Link | None:
        """Where the domain name leads; None: it is no DNSLink. Raises ResolverFailed."""
        name = name.lower().rstrip(".")
        found = self._static.get(name)
        if found is not None:
            return Link(found, 0)
        if not self._resolver or "." not in name:
            return None
        kept = self._kept.get(name)
        if kept is not None and self._clock.monotonic() < kept[0]:
            return kept[1]
        return await self._learn(name)

    async def _learn(self, name: str) -> Link | None:
        """Ask, once for all who want to know the same name at the same time."""
        asking = self._asking.get(name)
        if asking is not None:
            outcome = await asyncio.shield(asking)
            if isinstance(outcome, ResolverFailed):
                raise outcome
            return outcome
        if len(self._asking) >= _AT_ONCE:
            raise ResolverFailed(f"DNSLink of {name}: too many names are being looked up")
        asking = self._asking[name] = asyncio.get_running_loop().create_future()
        outcome = ResolverFailed(f"DNSLink of {name}: nobody waits for it any more")
        try:
            outcome = await self._asked(name)
        except ResolverFailed as error:
            outcome = error
            raise
        finally:
            del self._asking[name]
            asking.set_result(outcome)
        self._keep(name, outcome)
        return outcome

    def _keep(self, name: str, link: Link | None) -> None:
        seconds = NONE_KEPT if link is None else max(KEPT_LEAST, min(link.ttl, KEPT_LONGEST))
        self._kept[name] = (self._clock.monotonic() + seconds, link)
        self._kept.move_to_end(name)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    async def _asked(self, name: str) -> Link | None:
        assert self._fetch is not None
        mark = "&" if "?" in self._resolver else "?"
        url = f"{self._resolver}{mark}name={quote('_dnslink.' + name, safe='')}&type=TXT"
        try:
            return parse_answer(await self._fetch(url))
        except (OSError, ValueError, RecursionError) as error:
            raise ResolverFailed(f"DNSLink of {name}: {error}") from None


def parse_answer(body: bytes) -> Link | None:
    """The link in a JSON answer (as Google's, Cloudflare's and Quad9's resolvers write it).

    Of several the first in order counts. Raises ValueError.
    """
    answer = json.loads(body)
    if not isinstance(answer, dict) or answer.get("Status") not in (0, _NO_SUCH_DOMAIN):
        raise ValueError("the resolver could not tell")
    found = []
    records: Any = answer.get("Answer") or []
    if not isinstance(records, list):
        raise ValueError("not an answer")
    for record in records[:64]:
        if not isinstance(record, dict) or record.get("type") != _TXT:
            continue
        data, ttl = record.get("data"), record.get("TTL")
        if isinstance(data, str) and isinstance(ttl, int):
            path = _text(data)
            if path.startswith((f"{_MARK}/ipfs/", f"{_MARK}/ipns/")):
                found.append((path.removeprefix(_MARK), max(0, ttl)))
    if not found:
        return None
    path, ttl = min(found)
    return Link(path, ttl)


def _text(data: str) -> str:
    """A TXT record's strings, joined; some resolvers leave them in quotes."""
    if not data.startswith('"'):
        return data
    return "".join(data.strip('"').split('" "'))
