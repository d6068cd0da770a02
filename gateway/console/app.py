"""The console port: health and metrics. Raw ASGI, no framework on the way.

GET /health/live    200 while this worker answers
GET /health/ready   200 when nothing is missing, else 503; JSON {"ready", "missing"} either way
GET /metrics        Prometheus text format 0.0.4
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
# What the network lacks for being ready: one sentence each; nothing when it is ready.
ReadyProbe = Callable[[], Awaitable[list[str]]]

JSON = b"application/json"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of samples: (labels, value) pairs. `kind`: counter, gauge."""

    name: str
    kind: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)


MetricsProbe = Callable[[], Iterable[Metric]]


class ConsoleApp:
    """The ASGI application of the console port."""

    def __init__(self, ready: ReadyProbe, metrics: MetricsProbe) -> None:
        self._ready = ready
        self._metrics = metrics

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request; `lifespan` and others are not spoken here."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _reply(scope, send, 405, TEXT, b"GET or HEAD\n", allow=b"GET, HEAD")
            return
        match scope["path"]:
            case "/health/live":
                await _reply(scope, send, 200, JSON, b'{"live": true}\n')
            case "/health/ready":
                missing = await self._ready()
                body = json.dumps({"ready": not missing, "missing": missing}).encode() + b"\n"
                await _reply(scope, send, 503 if missing else 200, JSON, body)
            case "/metrics":
                await _reply(scope, send, 200, TEXT, exposition(self._metrics()))
            case _:
                await _reply(scope, send, 404, TEXT, b"/health/live /health/ready /metrics\n")


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Prometheus text format 0.0.4."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for labels, value in metric.samples:
            inner = ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items())
            lines.append(f"{metric.name}{f'{{{inner}}}' if inner else ''} {_number(value)}")
    return ("\n".join(lines) + "\n").encode()


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def _reply(
    scope: Scope, send: Send, status: int, kind: bytes, body: bytes, allow: bytes = b""
) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if allow:
        headers.append((b"allow", allow))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    content = b"" if scope["method"] == "HEAD" else body
    await send({"type": "http.response.body", "body": content})
