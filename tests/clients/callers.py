"""One way to call an operation, by boto3 or by the aws command line."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients.running import ROOT, RunningNetwork, program

SCRIPT = ROOT / "tests" / "clients" / "aws_calls.py"
_CODE = re.compile(r"An error occurred \((\w+(?:\.\w+)?)\)")


class Refused(Exception):
    """An error of the server, by its code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Caller(Protocol):
    """Calls operations; a body that comes back is text."""

    name: str

    def __call__(self, operation: str, service: str = "s3", **params: Any) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Boto:
    """boto3."""

    name = "boto3"

    def __init__(self, network: RunningNetwork, keys: tuple[str, ...] | None = None) -> None:
        self._network = network
        self._keys = keys
        self._clients: dict[str, Any] = {}

    def __call__(self, operation: str, service: str = "s3", **params: Any) -> dict[str, Any]:
        if service not in self._clients:
            self._clients[service] = self._network.boto(
                service, keys=self._keys, config=Config(retries={"total_max_attempts": 1})
            )
        try:
            found: dict[str, Any] = getattr(self._clients[service], xform_name(operation))(**params)
        except ClientError as error:
            raise Refused(error.response["Error"]["Code"]) from None
        if operation == "GetObject":
            found["Body"] = found["Body"].read().decode()
        return found

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


class CommandLine:
    """`aws s3api`, `aws iam`, `aws sts`: one process for all calls."""

    name = "aws"

    def __init__(self, network: RunningNetwork, keys: tuple[str, ...] | None = None) -> None:
        program("aws")  # skipped without it
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        given = dict(zip(names, keys or (), strict=False))
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=network.client_environ() | given | {"AWS_MAX_ATTEMPTS": "1"},
        )

    def __call__(self, operation: str, service: str = "s3", **params: Any) -> dict[str, Any]:
        words = ["s3api" if service == "s3" else service, xform_name(operation, "-")]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "body"
            if "Body" in params:
                file.write_text(params.pop("Body"))
                words += ["--body", str(file)]
            if operation == "GetObject":  # it takes its operands as words alone
                for name, value in params.items():
                    words += [f"--{xform_name(name, '-')}", str(value)]
                words.append(str(file))
            else:
                words += ["--cli-input-json", json.dumps(params), "--no-paginate"]
            words += ["--output", "json"]
            out = self._ask(words)
            found: dict[str, Any] = json.loads(out) if out.strip() else {}
            if operation == "GetObject":
                found["Body"] = file.read_text()
        return found

    def _ask(self, words: list[str]) -> str:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(words), file=self._process.stdin, flush=True)
        code, out, err = json.loads(self._process.stdout.readline())
        if code:
            known = _CODE.search(err)
            assert known, f"aws {' '.join(words)}: {err}"
            raise Refused(known[1])
        return str(out)

    def close(self) -> None:
        self._process.communicate()
