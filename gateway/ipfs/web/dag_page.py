"""The HTML page of a block of IPLD data: what it is, where to have it, what is in it. Pure."""

import json
from html import escape

from chain.cids import Cid
from gateway.ipfs.codecs import ipld
from gateway.ipfs.codecs.data_model import Value
from gateway.ipfs.errors import BlockError
from gateway.ipfs.web.pages import VERSION, Place, document, shown_name, size_text

BLOCK_BYTES_MAX = 256 << 10  # of a block that is shown
_ITEMS_MAX = 2000
_DEPTH_MAX = 24
_TEXT_MAX = 4096  # characters of one text
_DUMP_BYTES = 512  # of one byte string


def page(cid: Cid, place: Place, block: bytes) -> bytes:
    """The page of a block that may be anything."""
    codec = ipld.name(cid.codec)
    slash = "" if not place.path else "/"
    body = (
        f"<header>\n<div>\n<strong>Block of {place.crumbs()}{slash}</strong>\n"
        f'<div class="ipfs-hash" translate="no">{cid}</div>\n</div>\n'
        f'<div class="nowrap"><code translate="no">{codec} ({cid.codec:#x})</code>, '
        f"{size_text(len(block))}</div>\n</header>\n"
        "<section>\n<p>This block can be had as:</p>\n<ul>\n"
        '<li><a href="?format=raw" rel="nofollow">Raw block</a></li>\n'
        f'<li><a href="?format={codec}" rel="nofollow">{codec.upper()}</a></li>\n</ul>\n'
        f"</section>\n<section>\n{_preview(cid, place, block)}</section>\n"
    )
    return document(f"{place.shown}/", f"Content-addressed {codec} data on IPFS.", body)


def etag(cid: Cid) -> str:
    """A page's entity tag: changes with the page's form and with the block."""
    return f'"DagIndex-{VERSION}_CID-{cid}"'


def _preview(cid: Cid, place: Place, block: bytes) -> str:
    if len(block) > BLOCK_BYTES_MAX:
        return '<div class="none">The block is too large to be shown here.</div>\n'
    try:
        value = ipld.decode(cid.codec, block)
    except BlockError as error:
        return f'<div class="none">The block cannot be read: {shown_name(str(error))}.</div>\n'
    shown = _Preview(place).html(value, 0)
    return shown + "\n" if _is_inner(value) else f'<div class="value">{shown}</div>\n'


def _is_inner(value: Value) -> bool:
    return isinstance(value, list | dict) and bool(value)


class _Preview:
    """Values as nested lists of definitions; stops at so many."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._left = _ITEMS_MAX

    def html(self, value: Value, depth: int) -> str:
        """A value in HTML."""
        if isinstance(value, dict | list) and value:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            if depth == _DEPTH_MAX:
                return f"<code>\u2026 {len(value)}</code>"
            rows = []
            for key, item in pairs:
                self._left -= 1
                if self._left < 0:
                    rows.append("<dt>\u2026</dt><dd>more is not shown</dd>")
                    break
                inner = ' class="in"' if _is_inner(item) and depth + 1 < _DEPTH_MAX else ""
                rows.append(
                    f'<dt translate="no"><code>{_text(str(key))}</code></dt>'
                    f'<dd translate="no"{inner}>{self.html(item, depth + 1)}</dd>'
                )
            return f"<dl>{''.join(rows)}</dl>"
        return self._leaf(value)

    def _leaf(self, value: Value) -> str:
        if isinstance(value, Cid):
            return f'<a class="ipfs-hash" {self._place.content(value)}><code>{value}</code></a>'
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, bytes):
            return f"<pre>{_dump(value)}</pre>"
        # Numbers, true, false, null, and what is empty, as JSON writes them.
        return f"<code>{json.dumps(value)}</code>"


def _text(text: str) -> str:
    cut = "\u2026" if len(text) > _TEXT_MAX else ""
    return shown_name(text[:_TEXT_MAX]) + cut


def _dump(data: bytes) -> str:
    """Bytes in hexadecimal, 16 a line, with what of them is ASCII."""
    lines = []
    for at in range(0, min(len(data), _DUMP_BYTES), 16):
        piece = data[at : at + 16]
        ascii_text = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in piece)
        lines.append(f"{at:04x}  {piece.hex(' '):<47}  {escape(ascii_text)}")
    if len(data) > _DUMP_BYTES:
        lines.append(f"\u2026 {len(data)} bytes")
    return "\n".join(lines) or "(no bytes)"
