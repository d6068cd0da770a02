"""What every node process does around its work: signals, lifeline, logs, malloc, event loop."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable
from time import gmtime, strftime

import uvloop

from chain.format import StoreError
from chain.memory import IdleTrim, tune_malloc
from chain.net.rpc import AddressError, current_request

log = logging.getLogger(__name__)

EXIT_OK, EXIT_CRASH, EXIT_REFUSED, EXIT_STUCK = 0, 1, 2, 3
# A node that was told to stop is gone after this, whatever its handlers do.
STOP_SECONDS = 8.0

Main = Callable[[asyncio.Event], Awaitable[None]]


class NodeError(Exception):
    """The operator's to mend: one line on stderr, exit code 2."""


def run_node(
    main: Main,
    *,
    name: str,
    lifeline: int | None = None,
    on_hangup: Callable[[], None] | None = None,
    level: int = logging.INFO,
) -> int:
    """Run `main(stop)` in a uvloop until it returns; the process's exit code.

    SIGTERM, SIGINT or end-of-file on the `lifeline` descriptor set `stop`; 8 s later the process
    ends hard with code 3. SIGHUP calls `on_hangup`. Codes: 0 done, 1 crashed (traceback in the
    log), 2 refused (NodeError, StoreError, AddressError).
    """
    start_logging(name, level)
    tune_malloc()
    tune_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_supervised(main, lifeline, on_hangup))
    except Exception as error:  # noqa: BLE001 - the last door: every failure gets its exit code
        return _report(name, error)
    return EXIT_OK


def _report(name: str, error: Exception) -> int:
    """Tell a failure: one plain line when it is for the operator to mend, else a traceback."""
    leaves = _leaves(error)
    if all(isinstance(leaf, NodeError | StoreError | AddressError) for leaf in leaves):
        for line in dict.fromkeys(map(str, leaves)):
            sys.stderr.write(f"{name}: {line}\n")
        return EXIT_REFUSED
    log.critical("crashed", exc_info=error)
    return EXIT_CRASH


async def _supervised(
    main: Main, lifeline: int | None, on_hangup: Callable[[], None] | None
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    deadline: threading.Timer | None = None

    def begin_stop(reason: str) -> None:
        nonlocal deadline
        if deadline is not None:
            return
        log.info("stopping: %s", reason)
        stop.set()
        # A thread, so that it also ends a process whose event loop is stuck.
        deadline = threading.Timer(STOP_SECONDS, _end_hard)
        deadline.daemon = True
        deadline.start()

    def on_lifeline() -> None:
        assert lifeline is not None
        if not os.read(lifeline, 4096):
            loop.remove_reader(lifeline)
            begin_stop("the supervisor is gone")

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin_stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, on_hangup or (lambda: None))
    if lifeline is not None:
        os.set_blocking(lifeline, False)
        loop.add_reader(lifeline, on_lifeline)
    trim = IdleTrim(loop)
    try:
        await main(stop)
    finally:
        trim.close()
        if lifeline is not None:
            loop.remove_reader(lifeline)
        if deadline is not None:
            deadline.cancel()


def _end_hard() -> None:
    log.critical("still running %g s after the stop: ending hard", STOP_SECONDS)
    os._exit(EXIT_STUCK)


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def tune_collector() -> None:
    """Look for cycles less often, and never through what the imports made.

    Requests make hardly any cycles, but hundreds of objects each, and 700 start a collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, node, logger, request id, message, traceback."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "node": self.node,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := current_request.get():
            line["request"] = request
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=False)


def start_logging(node: str, level: int = logging.INFO) -> None:
    """JSON lines on stderr for every logger."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(node))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
