"""Static websites: a bucket's configuration, and what it makes of a visitor's address. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/WebsiteHosting.html and
https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-to-page-redirect.html
"""

from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import msgspec

from gateway.errors import InvalidArgument, InvalidRequest
from gateway.s3 import xml
from gateway.s3.errors import MalformedXML
from gateway.s3.xml_requests import child_text, parse_document

RULES_MAX = 50
MOVED = 301


class Redirect(msgspec.Struct, frozen=True, array_like=True):
    """Where to go instead; what is empty stays as it was asked for."""

    host: str = ""
    protocol: str = ""
    given_status: int = 0  # 0: none, MOVED
    key_prefix: str | None = None  # in the place of the prefix that the rule was about
    key: str | None = None  # in the place of the key

    @property
    def status(self) -> int:
        """Of the reply."""
        return self.given_status or MOVED


class RoutingRule(msgspec.Struct, frozen=True, array_like=True):
    """Both conditions must hold; an empty one does."""

    redirect: Redirect
    prefix: str = ""
    error: int = 0  # the status that would be sent

    def matches(self, key: str, error: int) -> bool:
        """Whether it is about this key, and this outcome (0: not known yet)."""
        return key.startswith(self.prefix) and self.error == error


class Website(msgspec.Struct, frozen=True, array_like=True):
    """A bucket's configuration."""

    index: str = ""  # behind a key that is empty or ends with a slash
    error: str = ""  # the key of the document for errors
    everything: Redirect | None = None
    rules: tuple[RoutingRule, ...] = ()

    def page(self, key: str) -> str:
        """The key of the document at an address."""
        return key + self.index if not key or key.endswith("/") else key

    def rule(self, key: str, error: int = 0) -> RoutingRule | None:
        """The first rule about it."""
        return next((rule for rule in self.rules if rule.matches(key, error)), None)


def location(redirect: Redirect, prefix: str, key: str, *, host: str, secure: bool) -> str:
    """The address to go to: `key` was asked for of `host`, and began with `prefix`."""
    if redirect.key is not None:
        key = redirect.key
    elif redirect.key_prefix is not None:
        key = redirect.key_prefix + key[len(prefix) :]
    protocol = redirect.protocol or ("https" if secure else "http")
    return f"{protocol}://{redirect.host or host}/{xml.url_encode(key)}"


# ------------------------------------------------------------------ documents
def parse_website(data: bytes) -> Website:
    """A WebsiteConfiguration. Raises MalformedXML, InvalidArgument, InvalidRequest."""
    tree = parse_document(data, "WebsiteConfiguration")
    everything = tree.find("RedirectAllRequestsTo")
    if everything is not None:
        if len(tree) > 1:
            raise InvalidArgument(
                "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules."
            )
        return Website(everything=_target(everything, host_needed=True))
    index, error = tree.find("IndexDocument"), tree.find("ErrorDocument")
    if index is None:
        raise InvalidArgument(
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
            ArgumentName="IndexDocument",
            ArgumentValue="null",
        )
    suffix = child_text(index, "Suffix") or ""
    if not suffix or "/" in suffix:
        raise InvalidArgument(
            "The IndexDocument Suffix is not well formed",
            ArgumentName="IndexDocument",
            ArgumentValue=suffix,
        )
    key = "" if error is None else child_text(error, "Key") or ""
    if error is not None and not key:
        raise MalformedXML
    listed = tree.find("RoutingRules")
    rules = () if listed is None else tuple(_rule(element) for element in listed)
    if len(rules) > RULES_MAX:
        raise InvalidRequest(
            f"{len(rules)} routing rules provided, the number of routing rules in a website "
            f"configuration is limited to {RULES_MAX}."
        )
    return Website(suffix, key, None, rules)


def _rule(element: Element) -> RoutingRule:
    condition, target = element.find("Condition"), element.find("Redirect")
    if element.tag != "RoutingRule" or target is None:
        raise MalformedXML
    prefix, error = "", 0
    if condition is not None:
        prefix = child_text(condition, "KeyPrefixEquals") or ""
        text = child_text(condition, "HttpErrorCodeReturnedEquals")
        if not prefix and text is None:
            raise InvalidRequest(
                "Condition cannot be empty. To redirect all requests without a condition, the "
                "condition element shouldn't be present."
            )
        if text is not None:
            error = _status(text, "error", 400, 599)
    return RoutingRule(_target(target), prefix, error)


def _target(element: Element, *, host_needed: bool = False) -> Redirect:
    host, protocol = child_text(element, "HostName") or "", child_text(element, "Protocol") or ""
    if protocol not in ("", "http", "https"):
        raise InvalidRequest(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be "
            "selected automatically."
        )
    if (host_needed and not host) or not _is_host(host):
        raise InvalidRequest("The HostName of a redirect is not a host's name.")
    code = child_text(element, "HttpRedirectCode")
    prefix, key = child_text(element, "ReplaceKeyPrefixWith"), child_text(element, "ReplaceKeyWith")
    if prefix is not None and key is not None:
        raise InvalidRequest("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
    if not len(element):
        raise InvalidRequest("Redirect cannot be empty.")
    status = 0 if code is None else _status(code, "redirect", 301, 399)
    return Redirect(host, protocol, status, prefix, key)


def _is_host(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        valid = parts.netloc == host and "@" not in host and (parts.port or 1) > 0
    except ValueError:
        return False
    return valid and host.isascii() and host.isprintable() and " " not in host


def _status(text: str, kind: str, least: int, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) == 3 else 0
    if not least <= number <= most:
        raise InvalidRequest(
            f"The provided HTTP {kind} code ({text}) is not valid. Valid codes are {least // 100}XX"
            f"{' except 300' if kind == 'redirect' else ' or 5XX'}."
        )
    return number


def website_document(site: Website) -> bytes:
    """The inverse of `parse_website`."""
    if site.everything is not None:
        inner = _redirect_xml("RedirectAllRequestsTo", site.everything)
    else:
        inner = f"<IndexDocument><Suffix>{xml.escape(site.index)}</Suffix></IndexDocument>"
        if site.error:
            inner += f"<ErrorDocument><Key>{xml.escape(site.error)}</Key></ErrorDocument>"
        if site.rules:
            inner += (
                f"<RoutingRules>{''.join(_rule_xml(rule) for rule in site.rules)}</RoutingRules>"
            )
    return xml.document("WebsiteConfiguration", inner)


def _rule_xml(rule: RoutingRule) -> str:
    condition = ""
    if rule.prefix:
        condition += f"<KeyPrefixEquals>{xml.escape(rule.prefix)}</KeyPrefixEquals>"
    if rule.error:
        condition += f"<HttpErrorCodeReturnedEquals>{rule.error}</HttpErrorCodeReturnedEquals>"
    if condition:
        condition = f"<Condition>{condition}</Condition>"
    return f"<RoutingRule>{condition}{_redirect_xml('Redirect', rule.redirect)}</RoutingRule>"


def _redirect_xml(element: str, redirect: Redirect) -> str:
    fields = {"HostName": redirect.host or None, "Protocol": redirect.protocol or None}
    if element == "Redirect":
        fields |= {
            "HttpRedirectCode": str(redirect.given_status) if redirect.given_status else None,
            "ReplaceKeyPrefixWith": redirect.key_prefix,
            "ReplaceKeyWith": redirect.key,
        }
    inner = "".join(
        f"<{name}>{xml.escape(value)}</{name}>"
        for name, value in fields.items()
        if value is not None
    )
    return f"<{element}>{inner}</{element}>"
