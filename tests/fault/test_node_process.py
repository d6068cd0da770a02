"""A node process from outside: signals, the lifeline, exit codes, log lines."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

NODE = """
import asyncio, logging, sys, time
import chain.process
from chain.process import NodeError, run_node
from chain.format import DirectoryLocked
from chain.net.rpc import current_request

async def main(stop):
    print("up", flush=True)
    how = sys.argv[1]
    if how == "refuse":
        raise NodeError("port 9000 is in use")
    if how == "refuse-in-group":
        async with asyncio.TaskGroup() as group:
            group.create_task(locked())
    if how == "crash":
        raise ValueError("broken")
    if how == "log":
        current_request.set("4442587FB7D0A2F9")
        logging.getLogger("test").info("stored %s", "ø\\n")
        return
    await stop.wait()
    if how == "stuck":
        time.sleep(30)
    if how == "slow":
        await asyncio.sleep(30)

async def locked():
    raise DirectoryLocked("/data is in use by process 7")

chain.process.STOP_SECONDS = 0.3
lifeline = int(sys.argv[2]) if len(sys.argv) > 2 else None
hangup = lambda: print("hangup", flush=True)
sys.exit(run_node(main, name="miner-1", lifeline=lifeline, on_hangup=hangup))
"""


def start(how: str, *, lifeline: int | None = None) -> subprocess.Popen:
    arguments = [sys.executable, "-c", NODE, how] + ([str(lifeline)] if lifeline else [])
    process = subprocess.Popen(
        arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[lifeline] if lifeline else [],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, errors = process.communicate(timeout=15)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_node_with_code_0(number: signal.Signals) -> None:
    process = start("wait")
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    assert process.stdout.readline() == "hangup\n"
    process.send_signal(number)
    code, errors = finish(process)
    assert code == 0
    assert json.loads(errors)["message"] == f"stopping: {number.name}"


def test_the_end_of_the_lifeline_stops_the_node() -> None:
    read, write = os.pipe()
    process = start("wait", lifeline=read)
    os.close(read)
    assert process.poll() is None
    os.close(write)
    assert finish(process)[0] == 0


@pytest.mark.parametrize("how", ["stuck", "slow"])
def test_a_node_that_does_not_stop_is_ended_hard(how: str) -> None:
    process = start(how)
    process.terminate()
    code, errors = finish(process)
    assert code == 3
    assert "ending hard" in errors


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("refuse", "miner-1: port 9000 is in use\n"),
        ("refuse-in-group", "miner-1: /data is in use by process 7\n"),
    ],
)
def test_an_operators_error_is_one_line_and_code_2(how: str, line: str) -> None:
    assert finish(start(how)) == (2, line)


def test_a_crash_has_its_traceback_in_one_log_line_and_code_1() -> None:
    code, errors = finish(start("crash"))
    entry = json.loads(errors)
    assert code == 1
    assert entry["level"] == "critical"
    assert "ValueError: broken" in entry["traceback"]


def test_a_log_line_is_json_with_the_request_id() -> None:
    code, errors = finish(start("log"))
    entry = json.loads(errors)
    assert code == 0
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "node": "miner-1",
        "logger": "test",
        "message": "stored ø\n",
        "request": "4442587FB7D0A2F9",
    }
