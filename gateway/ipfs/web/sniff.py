"""What kind of file begins with some bytes (https://mimesniff.spec.whatwg.org/, a part). Pure."""

import json
import re

BYTES = 512  # that are looked at

_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"OggS\x00", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"\x00asm", "application/wasm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"PK\x03\x04", "application/zip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wave", b"AVI ": "video/avi"}
_HTML = (
    b"<!doctype html", b"<html", b"<head", b"<script", b"<iframe", b"<h1", b"<div", b"<font",
    b"<table", b"<a", b"<style", b"<title", b"<body", b"<br", b"<p", b"<!--",
)  # fmt: skip
# What a longer JSON begins with: an object or a list, and tokens that may be in one.
_JSON_START = re.compile(
    rb"""\s*+(?:\{(?=\s*+["}])|\[)"""
    rb"""(?:[\s{}\[\],:]|"(?:[^"\\\x00-\x1f]|\\.)*+(?:"|\\?\Z)"""
    rb"""|-?[0-9][0-9.eE+-]*+|true|false|null|[a-z]{1,5}\Z)*+-?"""
)
_BINARY = frozenset(range(0x20)) - frozenset(b"\t\n\x0c\r\x1b")
_PLAIN, _UNKNOWN = "text/plain", "application/octet-stream"


def media_type(start: bytes) -> str:
    """The media type of a file that begins with these bytes."""
    start = start[:BYTES]
    return _by_magic(start) or _by_markup(start) or _by_text(start)


def _by_magic(start: bytes) -> str | None:
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12])
    if start[4:8] == b"ftyp":
        return "image/avif" if start[8:12] == b"avif" else "video/mp4"
    return None


def _by_markup(start: bytes) -> str | None:
    text = start.lstrip(b"\xef\xbb\xbf\t\n\x0c\r ").lower()
    if any(text.startswith(tag) and text[len(tag) : len(tag) + 1] in b" >" for tag in _HTML):
        return "text/html"
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "image/svg+xml"
    return "text/xml" if text.startswith(b"<?xml") else None


def _by_text(start: bytes) -> str:
    if _BINARY.intersection(start) or not _is_utf8(start):
        return _UNKNOWN
    return "application/json" if _is_json(start) else _PLAIN


def _is_json(start: bytes) -> bool:
    """Whether it is a JSON object or list, or the beginning of one that is longer."""
    if start.lstrip()[:1] not in (b"{", b"["):
        return False
    if len(start) == BYTES:
        return _JSON_START.fullmatch(start) is not None
    try:
        json.loads(start)
    except (ValueError, RecursionError):
        return False
    return True


def _is_utf8(start: bytes) -> bool:
    """Whether it is UTF-8, which may be cut off at the end."""
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(start) == BYTES and error.start > BYTES - 4
    return True
