"""Serving buckets as websites: to anybody, pages for errors, redirects.

A site answers at BUCKET.s3-website.DOMAIN on the S3 port, over GET and HEAD. What a visitor may see
is what an anonymous request may.
"""

from collections.abc import Callable
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from gateway.errors import NoSuchKey, StoreError
from gateway.model import Bucket
from gateway.s3 import operations as ops
from gateway.s3.attributes import header_value
from gateway.s3.auth import Caller
from gateway.s3.body import RequestBody
from gateway.s3.config import S3Config
from gateway.s3.errors import MethodNotAllowed, NoSuchWebsiteConfiguration
from gateway.s3.exchange import Exchange, Reply
from gateway.s3.permission import Permission
from gateway.s3.reading import get_object
from gateway.s3.request import Request
from gateway.s3.website import MOVED, Redirect, RoutingRule, Website, location

if TYPE_CHECKING:
    from gateway.objects import ObjectService

_HTML = (b"content-type", b"text/html; charset=utf-8")
_FOUND = 302
_NOBODY = Caller()
# A page for an error is sent whole, whatever the visitor has of the page that is not there.
_OF_ONE_PAGE = ("range", "if-range", "if-match", "if-none-match", "if-modified-since",
                "if-unmodified-since")  # fmt: skip


async def serve_site(
    request: Request,
    objects: "ObjectService",
    config: S3Config,
    now: float,
    keep_pace: Callable[[Bucket], None],
) -> Reply:
    """The page, a redirect, or a page that says what is wrong. Raises what is not a StoreError."""
    try:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(Method=request.method)
        bucket = objects.bucket(request.bucket)
        keep_pace(bucket)
        raw = objects.setting(bucket, "website")
        if raw is None:
            raise NoSuchWebsiteConfiguration(BucketName=request.bucket)
        site = msgspec.msgpack.decode(raw, type=Website)
        return await _Visit(request, objects, config, now, bucket, site).answer()
    except StoreError as error:
        return _error_page(error)


class _Visit:
    """One request to a site."""

    def __init__(
        self,
        request: Request,
        objects: "ObjectService",
        config: S3Config,
        now: float,
        bucket: Bucket,
        site: Website,
    ) -> None:
        self._request = request
        self._objects = objects
        self._config = config
        self._now = now
        self._bucket = bucket
        self._site = site

    async def answer(self) -> Reply:
        """Raises StoreError where the site has no page for it."""
        site, key = self._site, self._request.key
        if site.everything is not None:
            return self._redirect(RoutingRule(site.everything))
        rule = site.rule(key)
        if rule is not None:
            return self._redirect(rule)
        try:
            return await self._page(self._request, site.page(key))
        except StoreError as error:
            if isinstance(error, NoSuchKey) and key and not key.endswith("/") and self._has(key):
                # A directory without its slash; relative links need it.
                return self._redirect(RoutingRule(Redirect(given_status=_FOUND, key=f"{key}/")))
            rule = site.rule(key, int(error.status))
            if rule is not None:
                return self._redirect(rule)
            if site.error and error.status < 500:
                return await self._error_document(error)
            raise

    async def _page(self, request: Request, key: str) -> Reply:
        asked = replace(request, key=key)
        permission = Permission(asked, _NOBODY, self._objects, self._now)
        exchange = Exchange(
            asked,
            _NOBODY,
            RequestBody(asked, _NOBODY),
            self._objects,
            self._config,
            self._bucket,
            permission,
            int(self._now * 1e9),
        )
        operation = ops.GetObject(self._bucket.name, key, head=request.method == "HEAD")
        reply = await get_object(exchange, operation)
        elsewhere = dict(reply.headers).get(b"x-amz-website-redirect-location")
        if elsewhere is None:
            return reply
        if reply.stream is not None:
            await reply.stream.aclose()
        return Reply(MOVED, [(b"location", elsewhere)])

    def _has(self, key: str) -> bool:
        try:
            self._objects.head(self._bucket, self._site.page(f"{key}/"))
        except StoreError:
            return False
        return True

    async def _error_document(self, error: StoreError) -> Reply:
        headers = {n: v for n, v in self._request.headers.items() if n not in _OF_ONE_PAGE}
        try:
            reply = await self._page(replace(self._request, headers=headers), self._site.error)
        except StoreError:
            raise error from None
        reply.status = int(error.status) if reply.status == HTTPStatus.OK else reply.status
        return reply

    def _redirect(self, rule: RoutingRule) -> Reply:
        request = self._request
        host = request.headers.get("host", "")
        url = location(rule.redirect, rule.prefix, request.key, host=host, secure=request.secure)
        return Reply(rule.redirect.status, [(b"location", header_value(url))])


def _error_page(error: StoreError) -> Reply:
    """A page for people, with the same code as the S3 error."""
    status = HTTPStatus(int(error.status))
    title = f"{int(status)} {status.phrase}"
    rows = {"Code": error.code, "Message": error.text} | error.details
    items = "".join(f"<li>{name}: {escape(value)}</li>" for name, value in rows.items())
    page = (
        f"<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n"
        f"<body><h1>{title}</h1><ul>{items}</ul></body></html>\n"
    )
    return Reply(int(status), [_HTML], page.encode())
