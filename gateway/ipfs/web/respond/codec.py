"""`dag-json`, `dag-cbor`, `json`, `cbor`: blocks of IPLD data as they are (IPIP-328, IPIP-524).

Nothing is converted: a block of another codec is 406. `json` and `cbor` take the DAG- codecs too,
and leave UnixFS as it is. Without a format, people get a page (Accept: text/html), programs the
block.
"""

from chain.cids import CBOR, DAG_CBOR, DAG_JSON, JSON
from gateway.ipfs.codecs import ipld
from gateway.ipfs.errors import NotAcceptable, NotSupported
from gateway.ipfs.index.blocks import Inline
from gateway.ipfs.web import dag_page
from gateway.ipfs.web.formats import MEDIA_TYPES, Format
from gateway.ipfs.web.replies import Reply, caching, disposition
from gateway.ipfs.web.request import GatewayRequest
from gateway.ipfs.web.respond.page import page, place, to_slash
from gateway.ipfs.web.respond.ranged import ranged
from gateway.ipfs.web.serving import Serving
from gateway.ipfs.web.walk import Node, Resolved

# The codecs of which a format is the block itself.
_AS_IT_IS = {
    Format.DAG_JSON: (DAG_JSON,),
    Format.DAG_CBOR: (DAG_CBOR,),
    Format.JSON: (JSON, DAG_JSON),
    Format.CBOR: (CBOR, DAG_CBOR),
}
_OWN_FORMAT = {
    DAG_JSON: Format.DAG_JSON,
    DAG_CBOR: Format.DAG_CBOR,
    JSON: Format.JSON,
    CBOR: Format.CBOR,
}


async def respond(serving: Serving, request: GatewayRequest, resolved: Resolved) -> Reply:
    """The block in the format that was asked for. Raises NotAcceptable, NotSupported."""
    cid = resolved.roots[-1]
    if cid.codec not in _AS_IT_IS[request.format] or not isinstance(resolved.entity, Node):
        raise NotAcceptable(
            f"format {request.format.value} was asked for, but {cid} has codec "
            f"{ipld.name(cid.codec)}: blocks are not converted; take format=raw and convert there"
        )
    return block(serving, request, resolved, resolved.entity, request.format)


def node(serving: Serving, request: GatewayRequest, resolved: Resolved, found: Node) -> Reply:
    """A block of IPLD data where no format was asked for. Raises NotAcceptable, NotSupported."""
    own = _OWN_FORMAT.get(found.cid.codec)
    if own is None:
        name = ipld.name(found.cid.codec)
        raise NotAcceptable(f"{found.cid} has codec {name}: ask for format=raw or format=car")
    has_page = found.cid.codec in (DAG_CBOR, DAG_JSON)
    if request.html and has_page and not request.download and not resolved.remainder:
        if not request.content.trailing_slash:
            return to_slash(request)
        tag = dag_page.etag(found.cid)
        reply = page(
            request, found.cid, tag, lambda: dag_page.page(found.cid, place(request), found.block)
        )
    else:
        reply = block(serving, request, resolved, found, own)
    if has_page:  # caches must not give a program the page, nor people the block
        reply.headers["Vary"] = "Accept"
    return reply


def block(
    serving: Serving, request: GatewayRequest, resolved: Resolved, found: Node, form: Format
) -> Reply:
    """The bytes of a block under the name of a format."""
    if resolved.remainder:
        inside = "/".join(resolved.remainder)
        whole = request.content_path.rstrip("/")
        raise NotSupported(
            f"{inside!r} of {whole} is no link: reading IPLD Kinds other than Links (CBOR Tag 42) "
            f"is not implemented: try reading /ipfs/{found.cid} instead"
        )
    extension = "json" if form in (Format.DAG_JSON, Format.JSON) else "cbor"
    inline = extension == "json" and not request.download
    out = {
        "Content-Type": MEDIA_TYPES[form],
        "Content-Disposition": disposition(
            "inline" if inline else "attachment", request.filename or f"{found.cid}.{extension}"
        ),
        "X-Content-Type-Options": "nosniff",
        **caching(request),
    }
    return ranged(
        serving, request, Inline(found.cid, found.block), f'"{found.cid}.{form.value}"', out
    )
