import asyncio
import gc
import sys
import time

import pytest

from chain import memory
from chain.net.simulation import simulate
from chain.process import tune_collector

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")


def test_every_option_is_taken_by_the_c_library() -> None:
    assert memory.tune_malloc()


def test_a_process_that_rests_trims_once_and_again_after_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trims: list[float] = []
    used = [0.0]

    def trim() -> None:
        trims.append(used[0])
        used[0] += 1.0  # which is no work

    monkeypatch.setattr(memory, "trim", trim)
    monkeypatch.setattr(time, "process_time", lambda: used[0])

    async def run() -> None:
        idle = memory.IdleTrim(asyncio.get_running_loop())
        for busy, expected in ((True, 0), (False, 1), (False, 1), (True, 1), (False, 2)):
            used[0] += 5.0 if busy else 0.01
            await asyncio.sleep(memory.REST_SECONDS * 1.0001)
            assert len(trims) == expected
        idle.close()
        await asyncio.sleep(10 * memory.REST_SECONDS)
        assert len(trims) == 2

    simulate(run())


def test_the_collector_works_again_when_the_imports_are_done() -> None:
    thresholds = gc.get_threshold()
    gc.disable()
    try:
        tune_collector()
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*thresholds)
