"""The keys of OpenID Connect issuers: asked for once an hour, and never of anybody unconfigured.

`GET ISSUER/.well-known/openid-configuration` names where the keys are. Both documents are bounded
in size and time (fetching.py); a redirect is not followed. Keys elsewhere than at the issuer itself
must come over https, so that no issuer can point at a service inside.
https://openid.net/specs/openid-connect-discovery-1_0.html
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from chain.clock import Clock
from gateway.iam.jwt import BadToken, Key, parse_keys

KEPT_SECONDS = 3600.0
# A key id that is not known may be new: asked for again, but not by every token.
AGAIN_SECONDS = 60.0
REST_SECONDS = 10.0  # after a failure
ISSUERS_MAX = 128

# A URL -> the body of a 200. Raises FetchFailed.
Fetch = Callable[[str], Awaitable[bytes]]


class FetchFailed(Exception):
    """Nothing, too much, too late, or not a 200; the message says which."""


@dataclass(slots=True)
class _Kept:
    keys: list[Key]
    at: float


class Issuers:
    """Keys by issuer, in memory."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._failed: dict[str, float] = {}
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    async def keys(self, issuer: str, key_id: str) -> list[Key]:
        """The keys of a configured issuer (its URL). Raises FetchFailed, BadToken."""
        if (kept := self._usable(issuer, key_id)) is not None:
            return kept
        lock = self._asking.setdefault(issuer, asyncio.Lock())
        try:
            async with lock:  # who waited finds what the first one got
                if (kept := self._usable(issuer, key_id)) is None:
                    kept = await self._ask(issuer)
                return kept
        finally:
            if not lock.locked():
                self._asking.pop(issuer, None)

    def _usable(self, issuer: str, key_id: str) -> list[Key] | None:
        kept = self._kept.get(issuer)
        if kept is None:
            return None
        age = self._clock.monotonic() - kept.at
        known = any(key.id == key_id for key in kept.keys) or not key_id
        return kept.keys if age < (KEPT_SECONDS if known else AGAIN_SECONDS) else None

    async def _ask(self, issuer: str) -> list[Key]:
        now = self._clock.monotonic()
        if now < self._failed.get(issuer, 0.0):
            raise FetchFailed("it failed a moment ago")
        self._failed = {one: until for one, until in self._failed.items() if now < until}
        try:
            return await self._fetch_keys(issuer)
        except (FetchFailed, BadToken):
            self._failed[issuer] = self._clock.monotonic() + REST_SECONDS
            raise

    async def _fetch_keys(self, issuer: str) -> list[Key]:
        place = keys_url(issuer, await self._fetch(f"{issuer}/.well-known/openid-configuration"))
        keys = parse_keys(await self._fetch(place))
        self._kept[issuer] = _Kept(keys, self._clock.monotonic())
        self._kept.move_to_end(issuer)
        while len(self._kept) > ISSUERS_MAX:
            self._kept.popitem(last=False)
        return keys


def keys_url(issuer: str, document: bytes) -> str:
    """Where an issuer's keys are, by its discovery document. Raises BadToken."""
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise BadToken("the issuer's configuration is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("issuer"), str):
        raise BadToken("the issuer's configuration says not whose it is")
    if found["issuer"].rstrip("/") != issuer:
        raise BadToken("the issuer's configuration is another's")
    place = found.get("jwks_uri")
    if not isinstance(place, str) or len(place) > 2048 or not place.isascii():
        raise BadToken("the issuer's configuration says not where its keys are")
    own, other = urlsplit(issuer), urlsplit(place)
    same = (own.scheme, own.netloc) == (other.scheme, other.netloc)
    if not same and other.scheme != "https":
        raise BadToken("the issuer's keys are elsewhere, and not under https")
    return place
