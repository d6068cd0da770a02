"""When writes of one process begin together. Pure: the owner counts them and keeps the timer."""

# Longest wait; and never longer than the last writes took, as a faster disk has less to share.
GATHER_SECONDS = 0.01
# So many begin at once: more in a message and a commit would save little.
TOGETHER_MAX = 8


class Gathering:
    """Rounds of writes that begin together.

    A message costs wake-ups and a commit a sync, whatever they carry. Clients that were answered
    together come again together, one a few milliseconds after the other. So a write that had
    company lately waits a moment for it; a lone one waits for nobody.
    """

    __slots__ = ("_before", "_began", "_most", "_took")

    def __init__(self) -> None:
        self._most = self._before = 0  # that were open at once: in this round, in the last one
        self._began = self._took = 0.0

    def complete(self, waiting: int, unanswered: int) -> bool:
        """Whether nobody else is to be waited for; asked whenever writes came.

        `unanswered`: those that wait, and those that have begun and not ended.
        """
        self._most = max(self._most, unanswered)
        return waiting >= min(max(self._most, self._before), TOGETHER_MAX)

    @property
    def patience(self) -> float:
        """Seconds for which the first of a round waits for others."""
        return min(GATHER_SECONDS, self._took)

    def begin(self, unanswered: int, now: float) -> None:
        """Those that wait begin at `now` (seconds), and the next round gathers."""
        self._began = now
        self._before, self._most = self._most, unanswered

    def end(self, now: float) -> None:
        """Writes have ended."""
        self._took = now - self._began
