"""How long reads wait for an answer, and how often they may ask others because one is late."""

from dataclasses import dataclass

_HEDGE_BURST = 24.0


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """Seconds; `hedge_share` of all asks may be hedges.

    `timeout` bounds one ask. S3 clients give up after 60 s, so it leaves room for a second one.
    """

    timeout: float = 30.0
    # A stalled miner's breaker is open after three lags, within a second when reads are many: this
    # only bounds the few that meet it with the hedges used up.
    overdue: float = 3.0
    # For a miner that starts anew, or a connection that a starved machine has not made yet.
    retry: float = 4.0
    hedge_share: float = 0.05


@dataclass(slots=True)
class ReadCounts:
    """What reads asked of miners so far."""

    asks: int = 0  # of data shards, for what is wanted of them
    hedges: int = 0  # because an answer was late
    parity: int = 0  # in place of what cannot be had, or whose miner is left alone


class HedgeBudget:
    """A token bucket: every ask pays in, every hedge takes one."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = _HEDGE_BURST if share else 0.0
        self.counts = ReadCounts()

    def asked(self) -> None:
        """A first ask was made."""
        self.counts.asks += 1
        self._tokens = min(_HEDGE_BURST, self._tokens + self._share)

    def take(self, count: int) -> bool:
        """Whether `count` more asks are allowed; then they are paid."""
        if self._tokens < count:
            return False
        self._tokens -= count
        return True
