"""Health and metrics on the console port."""

import json
from typing import Any

import pytest

from gateway.console.app import ConsoleApp, Metric, exposition


async def asked(
    app: ConsoleApp, path: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


def app_with(missing: list[str]) -> ConsoleApp:
    async def ready() -> list[str]:
        return missing

    def metrics() -> list[Metric]:
        return [
            Metric("cumulus_bytes", "counter", "Bytes.", [({"face": 'a"b\\c\n'}, 2.0)]),
            Metric("cumulus_up", "gauge", "Up.", [({}, 0.5)]),
        ]

    return ConsoleApp(ready, metrics)


async def test_ready_says_what_is_missing() -> None:
    status, _, body = await asked(app_with([]), "/health/ready")
    assert (status, json.loads(body)) == (200, {"ready": True, "missing": []})
    status, _, body = await asked(app_with(["3 of 6 miners answer"]), "/health/ready")
    assert status == 503
    assert json.loads(body)["missing"] == ["3 of 6 miners answer"]


async def test_live_answers_whatever_is_missing() -> None:
    status, headers, body = await asked(app_with(["all"]), "/health/live")
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert int(headers["content-length"]) == len(body)


async def test_metrics_are_prometheus_text() -> None:
    status, headers, body = await asked(app_with([]), "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert body.decode().splitlines() == [
        "# HELP cumulus_bytes Bytes.",
        "# TYPE cumulus_bytes counter",
        'cumulus_bytes{face="a\\"b\\\\c\\n"} 2',
        "# HELP cumulus_up Up.",
        "# TYPE cumulus_up gauge",
        "cumulus_up 0.5",
    ]


def test_no_metrics_is_an_empty_exposition() -> None:
    assert exposition([]) == b"\n"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/metrics", 405), ("GET", "/", 404), ("GET", "/health", 404), ("DELETE", "/", 405)],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    assert (await asked(app_with([]), path, method))[0] == status


async def test_head_has_the_length_and_no_body() -> None:
    status, headers, body = await asked(app_with([]), "/health/ready", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
