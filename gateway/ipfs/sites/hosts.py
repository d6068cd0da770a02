"""What a Host header means: a gateway, or one content root below it. Pure.

https://specs.ipfs.tech/http-gateways/subdomain-gateway/. `CID.ipfs.GATEWAY`, `NAME.ipns.GATEWAY`;
a DNSLink name fits one label as `en-wikipedia--on--ipfs-org` (- doubled, then . as -).
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote_from_bytes

from chain.cids import DAG_PB, Cid, InvalidCid
from gateway.ipfs.errors import BadRequest
from gateway.ipfs.ipns.name import InvalidName, IpnsName, base36

LABEL_MAX = 63
HOST_MAX = 253
NAMESPACES = ("ipfs", "ipns")
_PORT = re.compile(r"(.*?)(:[0-9]{1,5})?", re.DOTALL)
_DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*"
                     r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # fmt: skip
SAFE = "/%!$&'()*+,;=:@"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A host that serves all content: by redirecting to subdomains."""

    host: str  # with the port


@dataclass(frozen=True, slots=True)
class Subdomain:
    """A host that serves one content root."""

    gateway: str  # the host below, with the port
    namespace: str
    root: str  # as written


@dataclass(frozen=True, slots=True)
class Other:
    """No host of a gateway: perhaps a DNSLink name; else content by path."""

    name: str  # lower-case, without the port; empty for an address
    host: str  # lower-case, with the port


@lru_cache(maxsize=1024)  # 14 to 40 µs of each request
def place(host: str, gateways: frozenset[str]) -> Gateway | Subdomain | Other:
    """Sort a Host header. `gateways` are lower-case names without a port."""
    match = _PORT.fullmatch(host)
    bare, port = (match[1], match[2] or "") if match else (host, "")
    bare = bare.removesuffix(".")
    lower = bare.lower()
    if lower in gateways:
        return Gateway(lower + port)
    labels = bare.split(".")
    for at in range(len(labels) - 1, 1, -1):
        below = ".".join(labels[at:]).lower()
        if below in gateways and labels[at - 1].lower() in NAMESPACES:
            root = ".".join(labels[: at - 1])
            return Subdomain(below + port, labels[at - 1].lower(), root)
    return Other(lower if is_domain(lower) else "", lower + port)


@lru_cache(maxsize=1024)
def is_domain(name: str) -> bool:
    """Whether it is a domain name, so not an address and not an IPNS key."""
    if not _DOMAIN.fullmatch(name) or is_key(name):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def is_key(name: str) -> bool:
    """Whether it is an IPNS name that is a key."""
    try:
        IpnsName.parse(name)
    except InvalidName:
        return False
    return True


def label(namespace: str, root: str) -> str:
    """The one label that a content root has on a gateway's host. Raises BadRequest."""
    if namespace == "ipns":
        try:
            name = IpnsName.parse(root, any_codec=True)
        except InvalidName:
            return _dnslink_label(root)
        return _fitting(base36(name.cid))
    try:
        cid = Cid.parse(root)
    except InvalidCid as error:
        raise BadRequest(f'invalid path "/ipfs/{root[:128]}": {error}') from None
    if cid.parts()[0] == 0:
        cid = Cid(b"\x01" + bytes([DAG_PB]) + cid.multihash)
    text = str(cid)
    return text if len(text) <= LABEL_MAX else _fitting(base36(cid))


def _fitting(text: str) -> str:
    if len(text) > LABEL_MAX:
        raise BadRequest(f"CID incompatible with DNS label length limit of {LABEL_MAX}: {text}")
    return text


def _dnslink_label(name: str) -> str:
    if not is_domain(name.lower()):
        raise BadRequest(f'invalid path "/ipns/{name[:128]}": neither a key nor a domain name')
    inlined = name.lower().replace("-", "--").replace(".", "-")
    if len(inlined) > LABEL_MAX:
        raise BadRequest(
            f"DNSLink representation incompatible with DNS label length limit of {LABEL_MAX}: "
            f"{inlined}"
        )
    return inlined


def uninlined(text: str) -> str:
    """The domain name of a label: of `my-v--long-example-com`, `my.v-long.example.com`."""
    return text.replace("--", "\0").replace("-", ".").replace("\0", "-")


@lru_cache(maxsize=1024)  # 73 µs for a key
def is_canonical(place: Subdomain) -> bool:
    """Whether this host is the one origin of its content (apart from names with dots).

    Raises BadRequest for a root that fits no label.
    """
    if place.namespace == "ipns" and not _is_cid(place.root):
        return True
    return label(place.namespace, place.root) == place.root


def subdomain_url(
    scheme: str, gateway: str, namespace: str, root: str, rest: bytes, query: bytes
) -> str:
    """Where a content root is on its own host. `rest`: the path behind it, percent-encoded.

    Raises BadRequest.
    """
    tail = quote_from_bytes(rest.lstrip(b"/"), safe=SAFE)
    asked = "?" + quote_from_bytes(query, safe=SAFE + "?[]") if query else ""
    return f"{scheme}://{label(namespace, root)}.{namespace}.{gateway}/{tail}{asked}"


def _is_cid(text: str) -> bool:
    try:
        IpnsName.parse(text, any_codec=True)
    except InvalidName:
        return False
    return True
