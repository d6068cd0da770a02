"""One network per data directory: file locks that the kernel drops with their holders."""

import fcntl
import os
from pathlib import Path

from chain.clock import Clock
from chain.format import (
    DirectoryLock,
    DirectoryLocked,
    StoreError,
    lock_directory,
    open_store,
    read_format,
    write_format,
)
from gateway.config import ConfigError

KIND, FORMAT = "network", 1
LEAVE_SECONDS = 15.0


def take_network(data_dir: Path) -> DirectoryLock:
    """The right to be this directory's network; also checks the directory's format.

    Raises ConfigError with what to do.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = lock_directory(data_dir / "run")
    except DirectoryLocked as error:
        raise ConfigError(
            f"--data-dir {data_dir}: a network already runs here ({error});"
            " stop it or choose another directory"
        ) from None
    except OSError as error:
        raise ConfigError(f"--data-dir {data_dir}: {error.strerror}") from None
    try:
        if read_format(data_dir, KIND) is None:  # new, or a network's parts brought together
            write_format(data_dir, KIND, FORMAT)
        open_store(data_dir, KIND, FORMAT, {})
    except StoreError as error:
        lock.release()
        raise ConfigError(str(error)) from None
    return lock


async def take_children(data_dir: Path, clock: Clock) -> int:
    """The lock that children inherit: waits while a killed supervisor's children leave."""
    end = clock.monotonic() + LEAVE_SECONDS
    path = data_dir / "run" / "children.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic() >= end:
                os.close(descriptor)
                raise ConfigError(
                    f"--data-dir {data_dir}: processes of an earlier run are still at work here;"
                    " end them and try again"
                ) from None
            await clock.sleep(0.1)
        else:
            return descriptor
