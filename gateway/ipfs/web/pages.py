"""What the pages for people have in common: their frame, their look, and links to content. Pure.

No scripts, nothing from elsewhere: the policy that is sent with a page allows its own style alone.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chain.cids import Cid

_UNSAFE = re.compile(rb"[^A-Za-z0-9_.~-]")
_FILE = (
    "url(\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M3 1h6l4 4v10H3z M9 1v4h4' fill='none' stroke='black' stroke-width='1.3' "
    "stroke-linejoin='round'/%3E%3C/svg%3E\")"
)
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath d='M8 .8l6.3 3.6v7.2L8 15.2l-6.3-3.6V4.4z' fill='%230b7285'/%3E"
    "%3Cpath d='M1.7 4.4L8 8l6.3-3.6M8 8v7.2' fill='none' stroke='white'/%3E%3C/svg%3E"
)
STYLE = (
    ":root{color-scheme:light dark;--back:#f4f6f8;--card:#fff;--line:#e1e5ea;--head:#f9fafb;"
    "--text:#22272e;--dim:#67707b;--link:#0b6a8a;--icon:#7d8794}"
    "@media(prefers-color-scheme:dark){:root{--back:#0f1317;--card:#171c21;--line:#2a3138;"
    "--head:#1b2127;--text:#e3e7eb;--dim:#97a1ac;--link:#72c3dc;--icon:#8b96a2}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--back);color:var(--text);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,Ubuntu,'Noto Sans',sans-serif;"
    "-webkit-text-size-adjust:100%}"
    "a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}"
    "code,pre,.ipfs-hash{font-family:ui-monospace,'SF Mono',Consolas,'DejaVu Sans Mono',monospace;"
    "font-size:.9em}"
    "main{max-width:72rem;margin:1.5rem auto;background:var(--card);border:1px solid var(--line);"
    "border-radius:10px;overflow:hidden}"
    "header{display:flex;flex-wrap:wrap;gap:.3rem 1.5rem;padding:.9rem 1.1rem;"
    "background:var(--head);border-bottom:1px solid var(--line);overflow-wrap:anywhere}"
    "header>div:first-child{flex:1 1 20rem;min-width:0}"
    "header .ipfs-hash,.dir .ipfs-hash{color:var(--dim)}.ipfs-hash code{font-size:1em}"
    ".nowrap{white-space:nowrap}"
    ".grid.dir{display:grid;"
    "grid-template-columns:min-content minmax(0,1fr) max-content max-content}"
    ".grid.dir>div{padding:.45rem .6rem;border-bottom:1px solid var(--line)}"
    ".grid.dir>div:nth-child(4n+1){padding-left:1.1rem}"
    ".grid.dir>div:nth-child(4n){padding-right:1.1rem;text-align:right;color:var(--dim);"
    "font-variant-numeric:tabular-nums}"
    ".grid.dir>div:nth-last-child(-n+4){border-bottom:0}"
    ".grid.dir>div:nth-child(4n+2){overflow-wrap:anywhere}"
    ".type-icon>div{width:1.1em;height:1.5em;overflow:hidden;color:transparent;"
    f"background:var(--icon);-webkit-mask:{_FILE} center/contain no-repeat;"
    f"mask:{_FILE} center/contain no-repeat}}"
    ".type-icon>.up{background:none;-webkit-mask:none;mask:none}"
    "section p,section ul{margin:.9rem 1.1rem}section ul{padding-left:1.2rem}"
    "nav{display:flex;gap:1.5rem;padding:.8rem 1.1rem;border-top:1px solid var(--line);"
    "background:var(--head)}"
    "dl{display:grid;grid-template-columns:fit-content(40%) minmax(0,1fr);margin:0}"
    "dl dl{border-left:1px solid var(--line)}"
    "dt,dd{margin:0;padding:.45rem .8rem;border-top:1px solid var(--line);overflow-wrap:anywhere}"
    "dt{color:var(--dim)}dd.in{padding:0}section>dl>dt{padding-left:1.1rem}"
    "dl>dt:first-of-type,dl>dd:first-of-type{border-top:0}"
    "section>dl,section>.value{border-top:1px solid var(--line)}"
    ".value{padding:.7rem 1.1rem;overflow-wrap:anywhere}pre{margin:0;overflow-x:auto}"
    ".none{padding:.9rem 1.1rem;color:var(--dim)}"
    "@media(max-width:40rem){main{margin:0;border-width:0 0 1px;border-radius:0}"
    ".grid.dir{grid-template-columns:0 minmax(0,1fr) max-content max-content}"
    ".grid.dir>div:nth-child(4n+1){padding:0;visibility:hidden}"
    ".grid.dir>div:nth-child(4n+2){padding-left:1.1rem}}"
    "@media print{body,main{background:none;border:0}.type-icon,nav{display:none}}"
)
POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode("ascii")
    + "'"
)
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
}
# Changes with the look, so that browsers take the new page: part of the entity tags.
VERSION = hashlib.sha256(STYLE.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands: its content path, and how links leave it."""

    namespace: str  # ipfs or ipns
    root: str  # the CID or name, as it was asked for
    path: Sequence[str] = ()
    # An origin of its own (subdomain, DNSLink): the content's root is the site's root.
    isolated: bool = False
    gateway: str = ""  # the host whose paths lead to other content; "" for this one

    @property
    def is_website(self) -> bool:
        """A DNSLink website: most have no gateway for other content."""
        host = self.gateway.partition(":")[0]
        return self.isolated and self.namespace == "ipns" and self.root == host

    def link(self, *names: str) -> str:
        """The URL of something below the root, from within the site."""
        start = [] if self.isolated else [self.namespace, quoted(self.root)]
        return "/" + "/".join([*start, *map(quoted, names)])

    def content(self, cid: Cid | str, name: str = "") -> str:
        """The attributes of a link to other content, to be saved as `name` (quoted)."""
        if self.is_website:
            return f'href="https://cid.ipfs.tech/#{cid}" target="_blank" rel="noreferrer noopener"'
        # Encoded twice, as links of other gateways are (ADR 195).
        query = f"?filename={name.replace('%', '%25')}" if name else ""
        return f'href="{self._host}/ipfs/{cid}{query}"'

    @property
    def _host(self) -> str:
        return f"//{escape(self.gateway)}" if self.isolated and self.gateway else ""

    @property
    def shown(self) -> str:
        """The content path for people."""
        return "/" + "/".join([self.namespace, self.root, *self.path])

    def crumbs(self) -> str:
        """The content path with a link at each step, in HTML."""
        if self.is_website:
            steps, home = f"{self._host}/", f"{self._host}/"
        else:
            home = f"{self._host}/{self.namespace}/{quoted(self.root)}"
            steps = f"{home}/"
        links = [f'<a href="{home}">{shown_name(self.root)}</a>']
        for number, name in enumerate(self.path, 1):
            target = steps + "/".join(map(quoted, self.path[:number]))
            links.append(f'<a href="{target}">{shown_name(name)}</a>')
        return f"/{self.namespace}/{'/'.join(links)}"


def document(title: str, about: str, body: str) -> bytes:
    """A whole page; `body` is HTML, the rest is text."""
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="description" content="{escape(about)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="{_ICON}">\n'
        f"<title>{shown_name(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f'<body>\n<main id="main">\n{body}</main>\n</body>\n</html>\n'
    )
    return page.encode("utf-8")


def quoted(name: str) -> str:
    """A name as a segment of a URL, whatever bytes it has; needs no escaping in HTML."""
    raw = name.encode("utf-8", "surrogateescape")
    return _UNSAFE.sub(_percent, raw).decode("ascii")


def _percent(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


def shown_name(name: str) -> str:
    """A name as HTML text; bytes that are no UTF-8 are shown as such."""
    return escape(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def size_text(count: int) -> str:
    """34 B, 1.2 kB, 120 MB."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        if amount < 999.5 or unit == "EB":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
