"""A progress bar on a terminal, silence elsewhere."""

import sys
from types import TracebackType
from typing import Any, Self


class Progress:
    """Bytes done of `total`; `advance` may be called from any thread."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(binary_units=True),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def name(self, text: str) -> None:
        """What is being worked on."""
        if self._bar is not None:
            self._bar.update(self._task, description=text[-40:].replace("[", "("))

    def advance(self, size: int) -> None:
        """`size` more bytes are done."""
        if self._bar is not None:
            self._bar.advance(self._task, size)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
