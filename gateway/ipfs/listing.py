"""The HTML page of a directory, in the markup of Kubo's gateway. Pure; children are not fetched."""

from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import quote

from chain.cids import Cid
from gateway.ipfs.dagpb import Link

VERSION = "cumulus1"
_ROWS = 256  # of one piece


def page(
    cid: Cid, root: str, path: Sequence[str], entries: Sequence[Link], limit: int
) -> Iterator[bytes]:
    """The page in pieces, with at most `limit` of the entries."""
    here = "/ipfs/" + "/".join([root, *(_quote(part) for part in path)])
    shown = "/ipfs/" + "/".join([root, *path])
    yield _head(cid, root, path, shown, sum(link.size for link in entries)).encode(
        "utf-8", "replace"
    )
    rows = []
    if path:
        parent = here.rsplit("/", 1)[0] + "/"
        rows.append(_row(".ipfs", f'<a href="{escape(parent)}">..</a>', "", ""))
    for link in entries[:limit]:
        rows.append(_entry(here, link))
        if len(rows) == _ROWS:
            yield "".join(rows).encode("utf-8", "replace")
            rows = []
    if len(entries) > limit:
        rows.append(_row("", f"{len(entries) - limit} more entries are not shown", "", ""))
    rows.append("</table></div></section></main></body></html>\n")
    yield "".join(rows).encode("utf-8", "replace")


def etag(cid: Cid) -> str:
    """A page's entity tag: changes with the page's form and with the directory."""
    return f'"DirIndex-{VERSION}_CID-{cid}"'


def _quote(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _head(cid: Cid, root: str, path: Sequence[str], shown: str, total: int) -> str:
    crumbs = [f'/ipfs/<a href="/ipfs/{root}/">{root}</a>']
    for number, part in enumerate(path, 1):
        target = "/ipfs/" + "/".join([root, *(_quote(p) for p in path[:number])]) + "/"
        crumbs.append(f'<a href="{escape(target)}">{escape(part)}</a>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="description" content="A directory of content-addressed files">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(shown)}</title>"
        "<style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}"
        "td{padding:.2em .8em}.ipfs-hash{font-family:monospace;color:#666}</style></head>"
        '<body><main id="main"><header class="flex flex-wrap"><div>'
        f"<strong>Index of {'/'.join(crumbs)}</strong></div>"
        f'<div><div class="ipfs-hash" translate="no">{cid}</div>'
        f"<div>{_size(total)}</div></div></header>"
        '<section><div class="table-responsive"><table class="table table-striped">\n'
    )


def _entry(here: str, link: Link) -> str:
    text = str(link.cid)
    short = f"{text[:4]}\u2026{text[-4:]}"
    name = f'<a href="{escape(here)}/{_quote(link.name)}">{escape(link.name)}</a>'
    target = f"/ipfs/{text}?filename={_quote(link.name)}"
    mark = f'<a class="ipfs-hash" translate="no" href="{escape(target)}">{short}</a>'
    return _row("", name, mark, _size(link.size))


def _row(kind: str, name: str, mark: str, size: str) -> str:
    icon = f'<td class="type-icon"><div class="ipfs-_blank{escape(kind)}">&nbsp;</div></td>'
    return (
        f'<tr>{icon}<td>{name}</td><td class="no-linebreak">{mark}</td>'
        f'<td class="no-linebreak" title="Cumulative size of IPFS DAG (data + metadata)">{size}'
        "</td></tr>\n"
    )


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
