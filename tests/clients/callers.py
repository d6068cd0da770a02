"""One way to call an operation, by boto3 or by the aws command line."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any, Protocol

from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients.running import Commands, RunningNetwork, program

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
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        given = dict(zip(names, keys or (), strict=False))
        program("aws")  # skipped without it
        environ = network.client_environ() | given | {"AWS_MAX_ATTEMPTS": "1"}
        self._commands = Commands("aws", environ)

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
        done = self._commands.run(words)
        if done.returncode:
            known = _CODE.search(done.stderr)
            assert known, f"aws {' '.join(words)}: {done.stderr}"
            raise Refused(known[1])
        return done.stdout

    def close(self) -> None:
        self._commands.close()
