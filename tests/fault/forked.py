"""Runs functions in forks of one small process, since what they open may end the process.

A fork costs some milliseconds where a new interpreter costs 300. A function is named as
MODULE:NAME, takes and returns what JSON carries.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Forks:
    """`with Forks("tests.fault.module:function") as run: run(argument, …)`."""

    def __init__(self, function: str) -> None:
        self._function = function

    def __enter__(self) -> "Forks":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fault.forked", self._function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        return self

    def __call__(self, *arguments: Any) -> tuple[int, Any]:
        """How the fork ended (0, or minus the signal's number), and what the function returned."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        code, answer = json.loads(self._process.stdout.readline())
        return code, answer

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(module), name)
    gc.collect()
    gc.freeze()  # or every fork copies what the collector touches
    for line in sys.stdin:
        read, write = os.pipe()
        if (pid := os.fork()) == 0:
            code = 1
            try:
                os.write(write, json.dumps(function(*json.loads(line))).encode())
                code = 0
            except BaseException:  # noqa: BLE001 - it is told by the exit code
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        with os.fdopen(read) as told:
            answer = json.loads(told.read() or "null")
        _, status = os.waitpid(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), answer]), flush=True)


if __name__ == "__main__":
    main()
