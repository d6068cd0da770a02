"""Which form of the content a client asks for: `?format=` and Accept. Pure.

https://specs.ipfs.tech/http-gateways/path-gateway/#format-request-query-parameter, IPIP-523: the
query wins. Of several acceptable types the one of highest weight is taken, the first of equals;
types that name no form of content (text/html, image/webp, */*) choose nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gateway.ipfs.errors import BadRequest, NotAcceptable

_TYPES_MAX = 32
_PARAMETERS_MAX = 16


class Format(Enum):
    """What the client wants of the content. The value is that of `?format=`."""

    CONTENT = ""
    RAW = "raw"
    CAR = "car"
    IPNS_RECORD = "ipns-record"
    TAR = "tar"
    DAG_JSON = "dag-json"
    DAG_CBOR = "dag-cbor"
    JSON = "json"
    CBOR = "cbor"


MEDIA_TYPES = {
    Format.RAW: "application/vnd.ipld.raw",
    Format.CAR: "application/vnd.ipld.car",
    Format.IPNS_RECORD: "application/vnd.ipfs.ipns-record",
    Format.TAR: "application/x-tar",
    Format.DAG_JSON: "application/vnd.ipld.dag-json",
    Format.DAG_CBOR: "application/vnd.ipld.dag-cbor",
    Format.JSON: "application/json",
    Format.CBOR: "application/cbor",
}
_BY_NAME = {form.value: form for form in MEDIA_TYPES}
_BY_MEDIA = {media: form for form, media in MEDIA_TYPES.items()}
_VENDOR = ("application/vnd.ipfs.", "application/vnd.ipld.")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The format that was chosen, and by what."""

    format: Format = Format.CONTENT
    by_accept: bool = False  # then Content-Location names it
    parameters: Mapping[str, str] = field(default_factory=dict)  # of the accepted type
    html: bool = False  # a browser: text/html is acceptable


_PLAIN, _BROWSER = Wanted(), Wanted(html=True)


def negotiate(options: Mapping[str, str], accept: bytes) -> Wanted:
    """The format of a request. Raises BadRequest, NotAcceptable for one that does not exist."""
    name = options.get("format", "")
    if not name and b"application/" not in accept:
        return _BROWSER if b"text/html" in accept else _PLAIN
    accepted = _accepted(accept)
    html = any(media == "text/html" for media, _ in accepted)
    if name:
        form = _BY_NAME.get(name)
        if form is None:
            known = ", ".join(_BY_NAME)
            raise NotAcceptable(f"format {name[:40]!r} is not known: {known} are")
        media = MEDIA_TYPES[form]
        # Parameters of Accept count only where Accept says the same type (IPIP-523).
        parameters = next((p for t, p in accepted[:1] if t == media), {})
        return Wanted(form, parameters=parameters, html=html)
    for media, parameters in accepted:
        if media in _BY_MEDIA:
            return Wanted(_BY_MEDIA[media], by_accept=True, parameters=parameters, html=html)
        if media.startswith(_VENDOR):
            raise NotAcceptable(f"{media[:80]} is not served here")
    return Wanted(html=html)


def _accepted(header: bytes) -> list[tuple[str, dict[str, str]]]:
    """Media types with their parameters, by weight; at most 32. Raises BadRequest."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for item in header.decode("latin-1").split(",")[:_TYPES_MAX]:
        media, *parameters = item.split(";")
        pairs = (parameter.partition("=") for parameter in parameters[:_PARAMETERS_MAX])
        values = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        try:
            weight = float(values.pop("q", "1"))
        except ValueError:
            raise BadRequest("Accept: q is no number") from None
        if weight > 0:
            found.append((-weight, media.strip().lower(), values))
    # Only types that name a form compete; the sort is stable.
    return [(media, values) for _, media, values in sorted(found, key=lambda x: x[0])]
