"""What every Catalog must do. Subclass, and give an `open_catalog` fixture."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.catalog.interface import (
    KEY_MAX,
    Add,
    Append,
    BadBatch,
    Batch,
    Catalog,
    Condition,
    Conflict,
    Delete,
    Empty,
    Equals,
    Exists,
    Put,
    Reader,
    Space,
)

OpenCatalog = Callable[[], Awaitable[Catalog]]
LIVE = Space.LIVE

# Keys that share long prefixes and fall on and beside the trie's cuts.
LONG = b"k" * 1500
LENGTHS = [1, 2, 478, 479, 480, 481, 959, 960, 961, 1000, 1024, 1439, 1440, 1441, 2047, 2048]


def key_strategy() -> st.SearchStrategy[bytes]:
    lengths = st.sampled_from([1, 3, 479, 480, 481, 960, 961, 1440, 2000])
    tails = st.binary(min_size=0, max_size=3)
    return st.builds(
        lambda fill, length, tail: (fill * length)[:length] + tail,
        st.sampled_from([b"a", b"\x00", b"\xff"]),
        lengths,
        tails,
    )


def changes_strategy() -> st.SearchStrategy[list[Put | Delete]]:
    spaces = st.sampled_from([Space.LIVE, Space.BODIES])
    put = st.builds(Put, spaces, key_strategy(), st.binary(max_size=40))
    return st.lists(st.one_of(put, st.builds(Delete, spaces, key_strategy())), max_size=6)


Model = dict[tuple[Space, bytes], bytes]


def apply_to_model(model: Model, changes: list[Put | Delete]) -> None:
    for change in changes:
        if isinstance(change, Put):
            model[change.space, change.key] = bytes(change.value)
        else:
            model.pop((change.space, change.key), None)


def model_rows(
    model: Model, space: Space, start: bytes, end: bytes | None
) -> list[tuple[bytes, bytes]]:
    return sorted(
        (key, value)
        for (of, key), value in model.items()
        if of == space and key >= start and (end is None or key < end)
    )


def check_against_model(
    reader: Reader, model: Model, start: bytes, end: bytes | None, limit: int
) -> None:
    for (space, key), value in model.items():
        assert reader.get(space, key) == value
    for space in (Space.LIVE, Space.BODIES):
        assert reader.scan(space, b"", None, 10_000) == model_rows(model, space, b"", None)
        expected = model_rows(model, space, start, end)
        assert reader.scan(space, start, end, limit) == expected[:limit]
        backward = reader.scan(space, start, end, limit, reverse=True)
        assert backward == expected[::-1][:limit]


class CatalogSuite:
    async def test_a_committed_row_is_read_by_the_next_reader(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Put(LIVE, b"key", b"value")]))
        with catalog.read() as reader:
            assert reader.get(LIVE, b"key") == b"value"
            assert reader.get(Space.VERSIONS, b"key") is None
            assert reader.get(LIVE, b"other") is None

    async def test_sequences_grow_by_one_and_conflicts_use_none(self, catalog: Catalog) -> None:
        first = await catalog.commit(Batch(changes=[Put(LIVE, b"a", b"")]))
        with pytest.raises(Conflict):
            await catalog.commit(Batch([Equals(LIVE, b"a", None)], [Put(LIVE, b"b", b"")]))
        assert await catalog.commit(Batch()) == first + 1
        assert await catalog.commit(Batch(changes=[Delete(LIVE, b"nothing")])) == first + 2

    async def test_a_failed_condition_is_named_and_leaves_no_trace(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Put(LIVE, b"a", b"1"), Add(b"n", 5)]))
        failing: list[Condition] = [
            Equals(LIVE, b"a", None),
            Equals(LIVE, b"a", b"2"),
            Equals(LIVE, b"b", b"1"),
            Exists(LIVE, b"b"),
            Empty(LIVE, b"a"),
            Empty(LIVE, b""),
        ]
        for condition in failing:
            batch = Batch(
                [Exists(LIVE, b"a"), condition],
                [Put(LIVE, b"x", b""), Delete(LIVE, b"a"), Add(b"n", 1)],
            )
            with pytest.raises(Conflict) as caught:
                await catalog.commit(batch)
            assert caught.value.failed == condition
        with catalog.read() as reader:
            assert reader.scan(LIVE, b"", None, 10) == [(b"a", b"1")]
            assert reader.counter(b"n") == 5

    async def test_conditions_that_hold_let_the_batch_through(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Put(LIVE, b"a", b"1")]))
        conditions: list[Condition] = [
            Equals(LIVE, b"a", b"1"),
            Equals(LIVE, b"b", None),
            Exists(LIVE, b"a"),
            Empty(LIVE, b"aa"),
            Empty(LIVE, LONG),
            Empty(Space.PARTS, b""),
        ]
        await catalog.commit(Batch(conditions, [Delete(LIVE, b"a")]))
        with catalog.read() as reader:
            assert reader.get(LIVE, b"a") is None

    async def test_conditions_reach_bodies(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Put(Space.BODIES, b"s", b"sealed")]))
        with pytest.raises(Conflict):
            await catalog.commit(Batch([Equals(Space.BODIES, b"s", b"other")]))
        await catalog.commit(
            Batch([Equals(Space.BODIES, b"s", b"sealed")], [Delete(Space.BODIES, b"s")])
        )
        await catalog.commit(Batch([Empty(Space.BODIES, b"")]))

    async def test_counters_add_within_bounds(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Add(b"n", 5), Add(b"n", -2), Add(b"m", -7)]))
        for failing in (
            Add(b"n", 1, ceiling=3),
            Add(b"n", -5, floor=0),
            Add(b"n", (1 << 63) - 1),
            Add(b"m", -(1 << 63)),
        ):
            with pytest.raises(Conflict) as caught:
                await catalog.commit(Batch(changes=[Add(b"n", 1), failing]))
            assert caught.value.failed == failing
        await catalog.commit(Batch(changes=[Add(b"n", 1, floor=0, ceiling=4)]))
        with catalog.read() as reader:
            assert (reader.counter(b"n"), reader.counter(b"m")) == (4, -7)
            assert reader.counter(b"never") == 0

    async def test_appended_rows_carry_the_sequence_and_their_index(self, catalog: Catalog) -> None:
        appends = [Append(Space.OUTBOX, b"p", b"one"), Append(Space.OUTBOX, b"", b"two")]
        sequence = await catalog.commit(Batch(changes=appends))
        number = sequence.to_bytes(8, "big")
        with catalog.read() as reader:
            assert reader.scan(Space.OUTBOX, b"", None, 9) == [
                (number + b"\x00\x01", b"two"),
                (b"p" + number + b"\x00\x00", b"one"),
            ]

    async def test_within_a_batch_the_last_change_of_a_row_wins(self, catalog: Catalog) -> None:
        for space in (LIVE, Space.BODIES):
            await catalog.commit(
                Batch(changes=[Put(space, b"a", b"1"), Delete(space, b"a"), Put(space, b"a", b"2")])
            )
            await catalog.commit(Batch(changes=[Put(space, b"b", b"1"), Delete(space, b"b")]))
            with catalog.read() as reader:
                assert reader.scan(space, b"", None, 9) == [(b"a", b"2")]

    async def test_a_reader_sees_one_snapshot(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Put(LIVE, b"a", b"1"), Put(Space.BODIES, b"s", b"x")]))
        with catalog.read() as before:
            await catalog.commit(Batch(changes=[Put(LIVE, b"a", b"2"), Put(LIVE, b"b", b"2")]))
            await catalog.commit(Batch(changes=[Delete(Space.BODIES, b"s")]))
            assert before.get(LIVE, b"a") == b"1"
            assert before.scan(LIVE, b"", None, 9) == [(b"a", b"1")]
            assert before.get(Space.BODIES, b"s") == b"x"
        with catalog.read() as after:
            assert after.scan(LIVE, b"", None, 9) == [(b"a", b"2"), (b"b", b"2")]
            assert after.get(Space.BODIES, b"s") is None

    async def test_values_may_be_any_buffer(self, catalog: Catalog) -> None:
        rows: dict[bytes, bytes | bytearray | memoryview] = {
            b"a": b"abc",
            b"b": bytearray(b"bcd"),
            b"c": memoryview(b"xcdex")[1:4],
        }
        for space in (LIVE, Space.BODIES):
            await catalog.commit(
                Batch(changes=[Put(space, k, cast("bytes", v)) for k, v in rows.items()])
            )
            with catalog.read() as reader:
                assert [v for _, v in reader.scan(space, b"", None, 9)] == [b"abc", b"bcd", b"cde"]

    async def test_large_values_come_back_whole(self, catalog: Catalog) -> None:
        value = bytes(range(256)) * 4096
        rows = [Put(LIVE, b"a", value), Put(Space.BODIES, b"a", value)]
        await catalog.commit(Batch(changes=rows))
        with catalog.read() as reader:
            assert reader.get(LIVE, b"a") == value
            assert reader.get(Space.BODIES, b"a") == value

    async def test_impossible_batches_are_refused_and_hurt_nobody(self, catalog: Catalog) -> None:
        for change in (
            Put(LIVE, b"", b""),
            Put(LIVE, b"x" * (KEY_MAX + 1), b""),
            Delete(LIVE, b""),
            Append(LIVE, b"x" * (KEY_MAX - 9), b""),
            Put(LIVE, b"x", bytes(16 << 20)),
            Put(Space.COUNTERS, b"x", b"short"),
        ):
            with pytest.raises(BadBatch):
                await catalog.commit(Batch(changes=[Put(LIVE, b"good", b""), change]))
        with catalog.read() as reader:
            assert reader.scan(LIVE, b"", None, 9) == []
        await catalog.commit(Batch(changes=[Put(LIVE, b"x" * KEY_MAX, b"y")]))

    async def test_keys_of_1024_bytes_sharing_1000_scan_in_byte_order(
        self, catalog: Catalog
    ) -> None:
        keys = [LONG[:1000] + f"{i:024d}".encode() for i in range(300)]
        await catalog.commit(Batch(changes=[Put(LIVE, k, k[-3:]) for k in reversed(keys)]))
        with catalog.read() as reader:
            rows = reader.scan(LIVE, b"", None, 1000)
            assert [key for key, _ in rows] == keys
            assert all(value == key[-3:] for key, value in rows)
            assert reader.scan(LIVE, keys[10], keys[20], 1000) == rows[10:20]
            assert reader.scan(LIVE, keys[10] + b"\x00", None, 5) == rows[11:16]
            assert reader.scan(LIVE, keys[10], keys[20], 3, reverse=True) == rows[19:16:-1]
            assert reader.scan(LIVE, LONG[:700], LONG[:999] + b"l", 999) == rows
            assert reader.get(LIVE, keys[7]) == keys[7][-3:]
            assert reader.get(LIVE, keys[7][:-1]) is None
        await catalog.commit(Batch([Exists(LIVE, keys[0])], [Delete(LIVE, k) for k in keys]))
        await catalog.commit(Batch([Empty(LIVE, b"")]))

    async def test_keys_of_every_length_beside_the_cuts_keep_their_order(
        self, catalog: Catalog
    ) -> None:
        keys = sorted(
            fill[:1] * (length - 1) + last
            for length in LENGTHS
            for fill in (b"\x00", b"m", b"\xff")
            for last in (b"\x00", b"m", b"\xff")
        )
        keys = sorted(set(keys))
        await catalog.commit(Batch(changes=[Put(LIVE, key, b"v") for key in keys]))
        with catalog.read() as reader:
            assert [k for k, _ in reader.scan(LIVE, b"", None, 999)] == keys
            assert [k for k, _ in reader.scan(LIVE, b"", None, 999, reverse=True)] == keys[::-1]
            for i, key in enumerate(keys):
                assert reader.get(LIVE, key) == b"v"
                assert [k for k, _ in reader.scan(LIVE, key, None, 2)] == keys[i : i + 2]
                backward = [k for k, _ in reader.scan(LIVE, b"", key, 2, reverse=True)]
                assert backward == keys[max(0, i - 2) : i][::-1]
        for key in keys:
            await catalog.commit(Batch([Exists(LIVE, key)], [Delete(LIVE, key)]))
        await catalog.commit(Batch([Empty(LIVE, b"")]))

    async def test_empty_ranges_and_limits_give_nothing(self, catalog: Catalog) -> None:
        await catalog.commit(Batch(changes=[Put(LIVE, b"a", b""), Put(LIVE, b"c", b"")]))
        with catalog.read() as reader:
            for reverse in (False, True):
                assert reader.scan(LIVE, b"", None, 0, reverse=reverse) == []
                assert reader.scan(LIVE, b"b", b"b", 9, reverse=reverse) == []
                assert reader.scan(LIVE, b"b", b"a", 9, reverse=reverse) == []
                assert reader.scan(LIVE, b"", b"", 9, reverse=reverse) == []
                assert reader.scan(LIVE, b"b", b"c", 9, reverse=reverse) == []
                assert reader.scan(LIVE, b"d", None, 9, reverse=reverse) == []

    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(
        batches=st.lists(changes_strategy(), max_size=6),
        start=key_strategy() | st.just(b""),
        end=key_strategy() | st.none(),
        limit=st.integers(1, 5),
    )
    async def test_random_batches_agree_with_a_dictionary(
        self,
        open_catalog: OpenCatalog,
        batches: list[list[Put | Delete]],
        start: bytes,
        end: bytes | None,
        limit: int,
    ) -> None:
        catalog = await open_catalog()
        model: Model = {}
        for changes in batches:
            await catalog.commit(Batch(changes=changes))
            apply_to_model(model, changes)
        with catalog.read() as reader:
            check_against_model(reader, model, start, end, limit)
        await catalog.close()
