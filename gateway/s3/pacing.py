"""How often buckets and accounts are asked: token buckets of one second's requests."""

from collections.abc import Mapping

from gateway.errors import SlowDown
from gateway.limits import kept_limits
from gateway.model import ACCOUNT_LIMITS, BUCKET_LIMITS, Bucket

HOLDERS_MAX = 10_000


class Pace:
    """Of one worker: each of `workers` lets its share through."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        # Holder -> (when, in seconds of any clock that does not jump; what was left then).
        self._left: dict[bytes, tuple[float, float]] = {}

    def check(self, bucket: Bucket, settings: Mapping[str, bytes], now: float) -> None:
        """Count a request to a bucket. Raises SlowDown for one too many; that is not counted."""
        taken = {}
        holders = {BUCKET_LIMITS: bucket.id, ACCOUNT_LIMITS: bucket.owner.id.encode()}
        for name, holder in holders.items():
            rate = kept_limits(settings[name]).requests if name in settings else 0
            if not rate:
                continue
            left = self._available(holder, rate, now)
            if left < 1.0:
                raise SlowDown("The bucket or its owner's account may not be asked so often.")
            taken[holder] = (now, left - 1.0)
        if len(self._left) + len(taken) > HOLDERS_MAX:
            self._left.clear()
        self._left |= taken

    def _available(self, holder: bytes, rate: int, now: float) -> float:
        share = rate / self._workers
        burst = max(1.0, share)
        when, left = self._left.get(holder, (now, burst))
        return min(burst, left + (now - when) * share)
