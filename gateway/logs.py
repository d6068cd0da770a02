"""The supervisor's journal: JSON lines in a file, short lines for the person at the terminal."""

import datetime
import json
import os
import shutil
from pathlib import Path
from typing import TextIO

from chain.clock import Clock

LOG_BYTES_MAX = 16 << 20


class Journal:
    """What the supervisor has to say."""

    def __init__(self, path: Path, terminal: TextIO, clock: Clock) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._terminal = terminal
        self._clock = clock

    def info(self, text: str, **fields: object) -> None:
        """For the file only."""
        self._write("info", text, fields)

    def warning(self, text: str, **fields: object) -> None:
        """For the file and the terminal."""
        self._write("warning", text, fields)
        self.say(text)

    def error(self, text: str, **fields: object) -> None:
        """For the file and the terminal."""
        self._write("error", text, fields)
        self.say(text)

    def say(self, text: str) -> None:
        """For the terminal only; a terminal that is gone stops nothing."""
        try:
            self._terminal.write(text + "\n")
            self._terminal.flush()
        except (OSError, ValueError):
            return

    def _write(self, level: str, text: str, fields: dict[str, object]) -> None:
        moment = datetime.datetime.fromtimestamp(self._clock.now_ns() / 1e9, datetime.UTC)
        record = {"time": moment.isoformat(), "level": level, "process": "supervisor"}
        line = json.dumps(record | {"message": text} | fields, default=str) + "\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            self.say(f"cannot write {self._path}: {error.strerror}")
            return
        try:
            os.write(descriptor, line.encode())
        except OSError as error:
            self.say(f"cannot write {self._path}: {error.strerror}")
        finally:
            os.close(descriptor)


def rotate(path: Path, limit: int = LOG_BYTES_MAX) -> bool:
    """Keep a log below `limit`: its content moves to NAME.1, whoever appends to it goes on.

    Copy and cut, because children hold the file open; a line written between both is lost.
    """
    try:
        if path.stat().st_size <= limit:
            return False
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)
    except OSError:
        return False
    return True
