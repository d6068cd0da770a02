"""A whole network of processes, started as a user starts it, and the programs that talk to it."""

import configparser
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest

from gateway.health import fetch

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 60.0
STOP_SECONDS = 10.0
# Set in CI: a client that is missing fails the test instead of skipping it.
REQUIRED = os.environ.get("CUMULUS_REQUIRE_CLIENTS") == "1"


class RunningNetwork:
    """`cumulus up` on free ports over one data directory."""

    def __init__(self, folder: Path, *options: str, **environ: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.options = options
        self.environ = environ
        self.process: subprocess.Popen[bytes] | None = None
        self.endpoints: dict[str, str | None] = {}
        self._staying: dict[str, Commands] = {}

    # ------------------------------------------------------------------ life
    def command(self, *options: str) -> list[str]:
        """The command line of `cumulus up` here."""
        ports = [
            w for p in ("s3", "ipfs", "ipfs-api", "edge", "console") for w in (f"--{p}-port", "0")
        ]
        up = [sys.executable, "-m", "gateway.cli", "up", "--data-dir", str(self.data_dir)]
        return [*up, *ports, "--background", "off", *self.options, *options]

    def start(self) -> None:
        """Start and wait until ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.terminal = self.folder / "terminal.txt"
        with self.terminal.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(),
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=os.environ | self.environ,
            )
        self.wait_ready()
        self.endpoints = json.loads((self.data_dir / "run" / "endpoints.json").read_text())

    def configure(self, settings: str) -> None:
        """What cumulus.toml says, before the start."""
        self.data_dir.mkdir(parents=True)
        (self.data_dir / "cumulus.toml").write_text(settings)

    def __enter__(self) -> Self:
        """Started; in the end it is stopped in order, unless it ended before."""
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self.end_commands()
        if self.process is not None and self.process.poll() is None:
            assert self.stop() == 0

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait for /health/ready; fail with the logs' last lines."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            path = self.data_dir / "run" / "endpoints.json"
            if path.exists() and self._ask_ready(json.loads(path.read_text())["console"]):
                return
            time.sleep(0.05)
        pytest.fail(f"the network is not ready after {seconds} s\n{self.logs()}")

    def _ask_ready(self, console: str) -> bool:
        import asyncio

        return asyncio.run(fetch(console, "/health/ready"))[0] == 200

    def logs(self) -> str:
        """The last lines of every log, for a failed test."""
        parts = []
        for path in [self.terminal, *sorted((self.data_dir / "logs").glob("*.log"))]:
            if path.exists():
                lines = path.read_text(errors="replace").splitlines()[-8:]
                parts.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(parts)[-20_000:]

    def stop(self) -> int:
        """SIGTERM, as Ctrl-C once; the exit code. Fails when it takes longer than promised."""
        assert self.process is not None
        self.end_commands()
        children = list(self.pids().values())
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"not stopped within {STOP_SECONDS} s\n{self.logs()}")
        left = [pid for pid in children if is_alive(pid)]
        assert not left, f"processes left behind: {left}"
        return code

    def pids(self) -> dict[str, int]:
        """Name -> pid of the children that run now."""
        path = self.data_dir / "run" / "processes.json"
        if not path.exists():
            return {}
        state = json.loads(path.read_text())["processes"]
        return {name: entry["pid"] for name, entry in state.items() if entry["pid"]}

    # ------------------------------------------------------------------ clients
    def keys(self) -> tuple[str, str]:
        """The first account's key pair."""
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self.data_dir / "credentials")
        section = parser["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]

    @property
    def authority(self) -> Path | None:
        """The network's own certificate authority, if it speaks TLS."""
        path = self.data_dir / "tls" / "ca.pem"
        return path if path.exists() else None

    def url(self, face: str) -> str:
        """The base URL of a face."""
        found = self.endpoints[face]
        assert found is not None
        return found

    def client_environ(self) -> dict[str, str]:
        """What the AWS tools need to find us, and nothing of the user's own settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        ours = {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.data_dir / "credentials"),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.url("s3"),
            "AWS_PAGER": "",
            "NO_PROXY": "127.0.0.1,localhost",
            "CUMULUS_DATA_DIR": str(self.data_dir),
        }
        if self.authority:
            ours["AWS_CA_BUNDLE"] = str(self.authority)
        return kept | ours

    def run(
        self,
        *command: str | Path,
        check: bool = True,
        without: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A client program; fails with what it said. `without`: variables that it must not see."""
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True,
            text=True,
            env={k: v for k, v in self.client_environ().items() if k not in without}
            | (environ or {}),
            timeout=300,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def run_with_keys(self, *command: str | Path, **environ: str) -> str:
        """A client that takes keys and authorities from its environment; what it printed."""
        access, secret = self.keys()
        given = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret} | environ
        if self.authority:
            # Some bring their own TLS and look for authorities where OpenSSL, curl or Node.js do.
            names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
            given |= dict.fromkeys(names, str(self.authority))
        return self.run(*command, environ=given).stdout

    def aws(
        self, *words: str | Path, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """The aws command line: one process for all calls without an environment of their own."""
        if environ:
            return self.run(program("aws"), *words, check=check, environ=environ)
        program("aws")  # skipped without it
        return self._command("aws", words, check)

    def cumulus(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The cumulus command line."""
        return self._command("cumulus", words, check)

    def _command(
        self, name: str, words: tuple[str | Path, ...], check: bool
    ) -> subprocess.CompletedProcess[str]:
        """By the process that stays, if the environment did too."""
        environ = self.client_environ()
        if name not in self._staying or self._staying[name].environ != environ:
            self.end_commands(name)
            self._staying[name] = Commands(name, environ)
        done = self._staying[name].run([str(word) for word in words])
        if check and done.returncode != 0:
            pytest.fail(f"{name} {words}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def end_commands(self, *names: str) -> None:
        """End the processes that run commands: all, or these."""
        for name in names or tuple(self._staying):
            if name in self._staying:
                self._staying.pop(name).close()

    def curl(self, url: str, *options: str | Path) -> bytes:
        """The body of a URL; fails on a status of 400 and above."""
        trust = ["--cacert", str(self.authority)] if self.authority else []
        done = subprocess.run(
            [program("curl"), "-sSf", "--max-time", "120", *trust, *map(str, options), url],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.fail(f"curl {url}: {done.stderr.decode()}")
        return done.stdout

    def boto(self, service: str = "s3", keys: tuple[str, ...] | None = None, **more: Any) -> Any:
        """boto3's client with its defaults, S3's of the first account unless said otherwise."""
        session = boto_session(*(keys or self.keys()))
        trust = {"verify": str(self.authority)} if self.authority else {}
        return session.client(service, endpoint_url=self.url("s3"), **trust, **more)


def boto_session(*keys: str) -> Any:
    """A session of boto3; all of them read botocore's models once (0.12 -> 0.01 CPU s a client)."""
    import boto3
    from botocore.session import Session

    core = Session()
    core.register_component("data_loader", _models())
    return boto3.session.Session(*keys, region_name="us-east-1", botocore_session=core)


@functools.cache
def _models() -> Any:
    from botocore.session import Session

    return Session().get_component("data_loader")


class Commands:
    """`aws` or `cumulus` in a process that stays (staying.py)."""

    def __init__(self, name: str, environ: dict[str, str]) -> None:
        self.environ = environ
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.clients.staying", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """One command."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(words), file=self._process.stdin, flush=True)
        code, out, err = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(words, code, out, err)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@functools.cache
def program(name: str, probe: str = "--version") -> str:
    """A client's path, if `NAME PROBE` runs; else skipped, or failed where clients are required."""
    folders = [Path(sys.prefix) / "bin", ROOT / "node_modules" / ".bin"]
    found = next((str(f / name) for f in folders if (f / name).exists()), None)
    found = found or shutil.which(name)
    if not found or subprocess.run([found, probe], capture_output=True, check=False).returncode:
        _missing(name)
    return found


def node_for(script: Path) -> str:
    """Node.js for a script, if the packages that it imports are installed; else as `program`."""
    for name in re.findall(r'from "(@[^/"]+/[^/"]+|[^/"]+)[^"]*"', script.read_text()):
        if not name.startswith(("node:", ".")) and not (ROOT / "node_modules" / name).is_dir():
            _missing(f"npm's {name}")
    return program("node")


def _missing(name: str) -> NoReturn:
    if REQUIRED:
        pytest.fail(f"client missing: {name} (CUMULUS_REQUIRE_CLIENTS=1)")
    pytest.skip(f"client missing: {name}")


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> digest of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def is_alive(pid: int) -> bool:
    """Whether a process of this id works; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
