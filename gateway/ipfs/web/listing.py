"""The HTML page of a directory, in the markup of Kubo's gateway. Pure; children are not fetched."""

from collections.abc import Sequence
from html import escape

from chain.cids import Cid
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.web.pages import VERSION, Place, document, quoted, shown_name, size_text

_WHOLE = "Cumulative size of IPFS DAG (data + metadata)"


def page(
    cid: Cid, place: Place, size: int, entries: Sequence[Link], *, start: str = "", more: str = ""
) -> bytes:
    """The page with these entries; `start` says where it starts, `more` where the next one does."""
    short = '<div class="ipfs-hash" translate="no">'
    rows = [
        f'<header class="flex flex-wrap">\n<div>\n<strong>Index of {place.crumbs()}</strong>\n'
        f"{short}{cid}</div>\n</div>\n"
        f'<div class="nowrap"><strong title="{_WHOLE}">{size_text(size)}</strong></div>\n'
        '</header>\n<section>\n<div class="grid dir">\n'
    ]
    if place.path:
        up = f'<a href="{place.link(*place.path)}/..">..</a>'
        rows.append(
            f'<div class="type-icon"><div class="up">&nbsp;</div></div><div>{up}</div>'
            "<div></div><div></div>\n"
        )
    # Kubo's links have no slash between the root and the first name of a site of its own.
    here = place.link(*place.path).rstrip("/") + "/"
    rows += [_row(here, place, link) for link in entries]
    rows.append("</div>\n")
    if not entries:
        rows.append('<div class="none">Nothing is in this directory.</div>\n')
    rows.append("</section>\n")
    if start or more:
        first = f'<a href="{here}">First page</a>' if start else ""
        onward = f'<a rel="next" href="?from={escape(more)}">Next page</a>' if more else ""
        rows.append(f"<nav>{first}{onward}</nav>\n")
    about = "A directory of content-addressed files on IPFS."
    return document(f"{place.shown}/", about, "".join(rows))


def etag(cid: Cid) -> str:
    """A page's entity tag: changes with the page's form and with the directory."""
    return f'"DirIndex-{VERSION}_CID-{cid}"'


def _row(here: str, place: Place, link: Link) -> str:
    text, name = str(link.cid), quoted(link.name)
    return (
        '<div class="type-icon"><div class="ipfs-_blank">&nbsp;</div></div>'
        f'<div><a href="{here}{name}">{shown_name(link.name)}</a></div>'
        f'<div class="nowrap"><a class="ipfs-hash" translate="no" {place.content(text, name)}>'
        f"{text[:4]}\u2026{text[-4:]}</a></div>"
        f'<div class="nowrap" title="{_WHOLE}">{size_text(link.size)}</div>\n'
    )
