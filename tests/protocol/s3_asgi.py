"""Calls the S3 application in process, and signs requests with botocore."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from botocore.auth import HmacV1Auth, HmacV1QueryAuth, S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.s3.app import S3App
from gateway.s3.request import Request, parse_request
from tests.conformance.s3_server import ALICE, CREDENTIALS, fresh_store

NOW = 1_790_000_000
HOST = "s3.test:9000"


class FixedClock:
    """Always NOW."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    finished: bool = False

    @property
    def code(self) -> str:
        text = self.body.decode()
        return text.partition("<Code>")[2].partition("</Code>")[0]


def scope_of(method: str, target: str, headers: dict[str, str]) -> dict[str, Any]:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "scheme": "http",
        "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers.items()],
    }


async def call(
    app: S3App,
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: Sequence[bytes] = (),
    *,
    leave: bool = False,
) -> Answer:
    """One request; with `leave` the client goes away behind the last piece."""
    given = {"host": HOST} | (headers or {})
    pieces = [
        {"type": "http.request", "body": piece, "more_body": leave or index < len(body) - 1}
        for index, piece in enumerate(body or [b""])
    ]
    answer = Answer()

    async def receive() -> dict[str, Any]:
        return pieces.pop(0) if pieces else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not answer.status
            answer.status = message["status"]
            answer.headers = {n.decode(): v.decode("latin-1") for n, v in message["headers"]}
            assert len(answer.headers) == len(message["headers"]), "a header came twice"
        else:
            answer.body += bytes(message.get("body", b""))
            answer.finished = not message.get("more_body", False)

    await app(scope_of(method, target, given), receive, send)
    return answer


async def make_app(**options: Any) -> S3App:
    """An application on an empty store."""
    return S3App(await fresh_store(), CREDENTIALS.get, clock=FixedClock(), **options)


# ------------------------------------------------------------------ signing
class PayloadSigner(S3SigV4Auth):  # type: ignore[misc]
    """Signs the x-amz-content-sha256 that the caller gave, if any."""

    def payload(self, request: Any) -> Any:
        return request.context.get("given_payload") or super().payload(request)


def moment() -> datetime:
    return datetime.fromtimestamp(NOW, UTC)


def sign(
    method: str,
    target: str,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    scheme: str = "v4",
    expires: int = 600,
) -> tuple[str, dict[str, str]]:
    """(target, headers) as botocore signs them: v4, v4-query, v2, v2-query."""
    credentials = Credentials(ALICE.access_key, ALICE.secret_key)
    request = AWSRequest(
        method=method,
        url=f"http://{HOST}{target}",
        headers={"Host": HOST} | (headers or {}),
        data=body,
    )
    request.context["client_config"] = None
    request.context["signing"] = {}
    request.context["given_payload"] = (headers or {}).get("x-amz-content-sha256")
    signer: Any
    if scheme == "v4":
        signer = PayloadSigner(credentials, "s3", "eu-west-7")
    elif scheme == "v4-query":
        signer = S3SigV4QueryAuth(credentials, "s3", "eu-west-7", expires=expires)
    elif scheme == "v2":
        signer = HmacV1Auth(credentials)
    else:
        signer = HmacV1QueryAuth(credentials, expires=expires)
    with (
        patch("botocore.auth.get_current_datetime", lambda: moment()),
        patch("botocore.auth.formatdate", lambda **_: moment().strftime("%a, %d %b %Y %T GMT")),
        patch("time.time", lambda: float(NOW)),
    ):
        signer.add_auth(request)
    split = urlsplit(request.url)
    signed_target = split.path + (f"?{split.query}" if split.query else "")
    return signed_target, {n.lower(): str(v) for n, v in request.headers.items()}


async def signed_call(
    app: S3App, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Sign with version 4 and call."""
    signed_target, signed = sign(method, target, headers, body)
    if body or method in ("PUT", "POST"):
        signed["content-length"] = str(len(body))
    return await call(app, method, signed_target, signed, [body] if body else [])


def as_request(method: str, target: str, headers: dict[str, str]) -> Request:
    """What the application's first step makes of it."""

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body is not read")

    return parse_request(scope_of(method, target, headers), receive, ("localhost",))
