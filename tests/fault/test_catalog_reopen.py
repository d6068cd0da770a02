"""Random commits, with stops, kills, power losses and compaction between them, against a model."""

import asyncio
import errno
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.clock import SystemClock
from chain.net.memory import MemoryNetwork, MemoryTransport
from gateway.catalog.client import CatalogClient
from gateway.catalog.compaction import CompactionSettings, Compactor
from gateway.catalog.interface import Batch, CommitUncertain, Delete, Put, Space
from gateway.catalog.local import LocalCatalog
from gateway.catalog.memory import MemoryCatalog
from gateway.catalog.pool_records import CatalogPoolRecords
from gateway.catalog.service import WriterStopped, run_catalog
from miner.records import Row
from tests.conformance.catalog_suite import (
    Model,
    apply_to_model,
    changes_strategy,
    check_against_model,
)
from tests.fault.catalog_tools import SMALL, FailingDisk, put

EVENTS = st.sampled_from(["stop", "kill", "power loss", "compact", "checkpoint"])
EAGER = CompactionSettings(live_fraction=0.9, checkpoint_bytes=1, step_rows=3)


async def interrupt(catalog: LocalCatalog, directory: Path, event: str, boot: str) -> LocalCatalog:
    if event == "compact":
        await Compactor(catalog, EAGER).work(force=True)
        return catalog
    if event == "checkpoint":
        catalog.store.checkpoint()
        return catalog
    if event == "stop":
        await catalog.close()
    else:
        await catalog.writer.close()
        catalog.store.abandon()
    if event == "power loss":
        (directory / "index" / "data.mdb").write_bytes(b"what the disk had of it")
    return LocalCatalog.open(directory, boot=lambda: boot, settings=SMALL)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.one_of(changes_strategy(), EVENTS), max_size=14))
async def test_nothing_committed_is_lost_whatever_comes_between(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | list[Put | Delete]]
) -> None:
    directory = tmp_path_factory.mktemp("catalog")
    catalog = LocalCatalog.open(directory, boot=lambda: "first", settings=SMALL)
    model: Model = {}
    losses = 0
    for step in [*steps, "compact", "power loss"]:
        if isinstance(step, str):
            losses += step == "power loss"
            boot = f"boot {losses}" if losses else "first"
            catalog = await interrupt(catalog, directory, step, boot)
        else:
            await catalog.commit(Batch(changes=step))
            apply_to_model(model, step)
        with catalog.read() as reader:
            check_against_model(reader, model, b"a", b"\xff", 5)
    await catalog.close()


async def test_the_service_ends_when_the_disk_fails_under_the_log(tmp_path: Path) -> None:
    disk = FailingDisk()
    catalog = LocalCatalog.open(tmp_path, disk=disk, settings=SMALL)
    transport = MemoryTransport(MemoryNetwork())
    client = CatalogClient(
        tmp_path, transport.connect("memory://catalog"), index=catalog.store.index
    )

    async def serve_and_lose() -> None:
        run = run_catalog(catalog, transport, "memory://catalog", SystemClock(), asyncio.Event())
        async with asyncio.TaskGroup() as group:
            group.create_task(run)
            await asyncio.sleep(0)
            await client.commit(put(Space.LIVE, b"a", b"1"))
            disk.sync_error = OSError(errno.EIO, "Input/output error")
            with pytest.raises(CommitUncertain):
                await client.commit(put(Space.LIVE, b"b", b"2"))

    with pytest.raises(ExceptionGroup) as caught:
        await serve_and_lose()
    assert caught.group_contains(WriterStopped)
    await catalog.close()
    await client.close()


async def test_the_service_ends_when_it_is_told_to(tmp_path: Path) -> None:
    catalog = LocalCatalog.open(tmp_path, settings=SMALL)
    stop = asyncio.Event()
    stop.set()
    transport = MemoryTransport(MemoryNetwork())
    await run_catalog(catalog, transport, "memory://catalog", SystemClock(), stop)
    await catalog.close()


async def test_pool_rows_change_only_when_what_was_expected_still_holds() -> None:
    records = CatalogPoolRecords(MemoryCatalog())
    assert await records.apply([Row("placement", b"s", None)], [Row("placement", b"s", b"1")])
    assert not await records.apply(
        [Row("placement", b"s", None)], [Row("repairs", b"r", b""), Row("placement", b"s", b"2")]
    )
    assert records.get("placement", b"s") == b"1"
    assert records.scan("repairs", b"", 9) == []
    changes = [Row("placement", b"s", None), Row("releases", b"s", b"2")]
    assert await records.apply([Row("placement", b"s", b"1")], changes)
    assert records.get("placement", b"s") is None
    assert records.scan("releases", b"a", 9) == [(b"s", b"2")]
