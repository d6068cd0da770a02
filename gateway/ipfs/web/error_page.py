"""The HTML page of what could not be served. Pure."""

from http import HTTPStatus

from gateway.ipfs.web.pages import document, shown_name

_ADVICE = {
    HTTPStatus.BAD_REQUEST: "The address is not one of content on IPFS.",
    HTTPStatus.NOT_FOUND: "This network does not hold the content, or it is not public here.",
    HTTPStatus.NOT_ACCEPTABLE: "The content is here, but not in the form that was asked for.",
    HTTPStatus.PRECONDITION_FAILED: "The content is not here, and it was to be had from here only.",
    HTTPStatus.GONE: "The content is not served by this gateway.",
    HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS: "The content is not served for legal reasons.",
    HTTPStatus.TOO_MANY_REQUESTS: "The gateway has much to do. Try again in a moment.",
    HTTPStatus.NOT_IMPLEMENTED: "This is known, and not served by this gateway.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Try again in a moment.",
    HTTPStatus.GATEWAY_TIMEOUT: "It took too long to have the content. Try again in a moment.",
}


def page(status: int, sentence: str) -> bytes:
    """The page for a browser; `sentence` says what was wrong."""
    known = HTTPStatus(status)
    title = f"{status} {known.phrase}"
    advice = _ADVICE.get(known, "")
    body = (
        f"<header>\n<div><strong>{title}</strong></div>\n</header>\n<section>\n"
        + (f"<p>{advice}</p>\n" if advice else "")
        + f'<div class="value"><code>{shown_name(sentence)}</code></div>\n</section>\n'
    )
    return document(title, f"{title}: this content could not be served.", body)
