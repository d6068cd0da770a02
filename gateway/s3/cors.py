"""Cross-origin resource sharing: a bucket's rules, preflights, and headers of replies.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html and the Fetch standard. Pure
but for the handler at the end.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.attributes import Headers
from gateway.s3.errors import (
    CorsForbidden,
    CorsWithoutOrigin,
    InvalidCorsRule,
    MalformedXML,
)
from gateway.s3.exchange import Exchange, Reply
from gateway.s3.xml_requests import child_text, child_texts, parse_document

RULES_MAX = 100
ID_MAX = 255
METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "DELETE"})
_VARY = (b"vary", b"Origin, Access-Control-Request-Headers, Access-Control-Request-Method")


class CorsRule(msgspec.Struct, frozen=True, array_like=True):
    """One rule. Origins and headers may hold one `*` each; headers are compared in lower case."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age: int | None = None
    id: str = ""

    def allows(self, origin: str, method: str, headers: Iterable[str]) -> bool:
        """Whether a page of `origin` may send `method` with these headers (lower case)."""
        return (
            method in self.methods
            and any(_matches(pattern, origin) for pattern in self.origins)
            and all(any(_matches(p.lower(), h) for p in self.headers) for h in headers)
        )


def _matches(pattern: str, text: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == text
    return (
        len(text) >= len(before) + len(after) and text.startswith(before) and text.endswith(after)
    )


# ------------------------------------------------------------------ documents
def parse_cors(data: bytes) -> tuple[CorsRule, ...]:
    """The rules of a CORSConfiguration. Raises MalformedXML, InvalidCorsRule."""
    tree = parse_document(data, "CORSConfiguration")
    rules = []
    for element in tree:
        if element.tag != "CORSRule":
            raise MalformedXML
        age = child_text(element, "MaxAgeSeconds")
        rule = CorsRule(
            origins=child_texts(element, "AllowedOrigin"),
            methods=child_texts(element, "AllowedMethod"),
            headers=child_texts(element, "AllowedHeader"),
            exposed=child_texts(element, "ExposeHeader"),
            max_age=None if age is None else _seconds(age),
            id=child_text(element, "ID") or "",
        )
        _check(rule)
        rules.append(rule)
    if not 1 <= len(rules) <= RULES_MAX:
        raise MalformedXML
    return tuple(rules)


def _seconds(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise MalformedXML
    return int(text)


def _check(rule: CorsRule) -> None:
    if not rule.origins or not rule.methods or len(rule.id) > ID_MAX:
        raise MalformedXML
    for method in rule.methods:
        if method not in METHODS:
            raise InvalidCorsRule(
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )
    for name, values in (("AllowedOrigin", rule.origins), ("AllowedHeader", rule.headers)):
        for value in values:
            if value.count("*") > 1:
                raise InvalidCorsRule(f'{name} "{value}" can not have more than one wildcard.')
    for value in rule.exposed:
        if "*" in value:
            raise InvalidCorsRule(
                f'ExposeHeader "{value}" contains wildcard. We currently do not support wildcard '
                "for ExposeHeader."
            )
    if any(not text.isprintable() for text in (*rule.origins, *rule.headers, *rule.exposed)):
        raise MalformedXML


def cors_document(rules: Iterable[CorsRule]) -> bytes:
    """The inverse of `parse_cors`."""
    return xml.document("CORSConfiguration", "".join(_rule_xml(rule) for rule in rules))


def _rule_xml(rule: CorsRule) -> str:
    lists = (
        ("AllowedHeader", rule.headers),
        ("AllowedMethod", rule.methods),
        ("AllowedOrigin", rule.origins),
        ("ExposeHeader", rule.exposed),
    )
    inner = f"<ID>{xml.escape(rule.id)}</ID>" if rule.id else ""
    inner += "".join(f"<{name}>{xml.escape(v)}</{name}>" for name, values in lists for v in values)
    if rule.max_age is not None:
        inner += f"<MaxAgeSeconds>{rule.max_age}</MaxAgeSeconds>"
    return f"<CORSRule>{inner}</CORSRule>"


@lru_cache(maxsize=256)
def decode_rules(raw: bytes) -> tuple[CorsRule, ...]:
    """As they are stored."""
    return msgspec.msgpack.decode(raw, type=tuple[CorsRule, ...])


# ------------------------------------------------------------------ replies
def reply_headers(rules: Iterable[CorsRule], origin: str, method: str) -> Headers:
    """What a reply to a page of `origin` says besides; nothing where no rule allows it."""
    for rule in rules:
        if rule.allows(origin, method, ()):
            return _granted(rule, origin)
    return []


def preflight(rules: Iterable[CorsRule], headers: Mapping[str, str]) -> Reply:
    """The answer to OPTIONS. Raises CorsForbidden."""
    origin = headers["origin"]
    method = headers.get("access-control-request-method", "")
    asked = headers.get("access-control-request-headers", "")
    names = [name.strip().lower() for name in asked.split(",") if name.strip()]
    for rule in rules:
        if rule.allows(origin, method, names):
            granted = _granted(rule, origin)
            if names:
                shown = ", ".join(names).encode("latin-1", "replace")
                granted.append((b"access-control-allow-headers", shown))
            if rule.max_age is not None:
                granted.append((b"access-control-max-age", b"%d" % rule.max_age))
            return Reply(200, granted)
    raise CorsForbidden(
        "CORSResponse: This CORS request is not allowed: no rule of the bucket has its origin, "
        "method and headers.",
        Method=method,
        ResourceType="OBJECT",
    )


def _granted(rule: CorsRule, origin: str) -> Headers:
    everybody = "*" in rule.origins
    shown = b"*" if everybody else origin.encode("latin-1", "replace")
    granted: Headers = [
        (b"access-control-allow-origin", shown),
        (b"access-control-allow-methods", ", ".join(rule.methods).encode()),
    ]
    if not everybody:
        granted.append((b"access-control-allow-credentials", b"true"))
    if rule.exposed:
        exposed = ", ".join(rule.exposed).encode("latin-1", "replace")
        granted.append((b"access-control-expose-headers", exposed))
    return [*granted, _VARY]


async def answer_preflight(exchange: Exchange, operation: ops.Preflight) -> Reply:
    """OPTIONS, for anybody: a browser signs no preflight."""
    del operation
    headers = exchange.request.headers
    if "origin" not in headers or "access-control-request-method" not in headers:
        raise CorsWithoutOrigin
    raw = exchange.objects.setting(exchange.bucket, "cors")
    if raw is None:
        raise CorsForbidden("CORSResponse: CORS is not enabled for this bucket.")
    return preflight(decode_rules(raw), headers)
