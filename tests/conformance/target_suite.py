"""What every driver of notifications promises. Subclass it with a `target` and a `sink`."""

import asyncio
import json
from typing import Any, Protocol

import pytest

from gateway.events.message import Message, message_of
from gateway.events.rules import TEST_EVENT
from gateway.events.target import Target, TargetRefused, TargetUnavailable
from gateway.records import EventRow


class Sink(Protocol):
    """The other side, as a test sees and spoils it."""

    def documents(self) -> list[dict[str, Any]]:
        """What was taken, in the order it came."""
        ...

    def spoil(self, how: str) -> None:
        """`down`: cannot be reached; `busy`: says later; `refuse`: never; `silent`: no answer;
        `garbage`: no sense; ``: as it should be."""
        ...


def message(number: int, key: str = "k") -> Message:
    return message_of(EventRow("s3:ObjectCreated:Put", "b", key, 10**18, sequence=number, size=1))


def sequences(documents: list[dict[str, Any]]) -> list[int]:
    return [
        int(record["s3"]["object"]["sequencer"], 16)
        for document in documents
        for record in document.get("Records", [])
    ]


class TargetSuite:
    """The fixtures `target` and `sink` are the subclass's."""

    async def test_what_was_delivered_is_there_in_order(self, target: Target, sink: Sink) -> None:
        for start in range(0, 3 * target.batch, target.batch):
            await target.deliver([message(start + n) for n in range(target.batch)])
        assert sequences(sink.documents()) == list(range(3 * target.batch))

    async def test_a_test_event_is_delivered_as_it_is(self, target: Target, sink: Sink) -> None:
        await target.deliver([message_of(EventRow(TEST_EVENT, "b", "", 10**18, request_id="R"))])
        assert [d["Event"] for d in sink.documents()] == [TEST_EVENT]
        assert sink.documents()[0]["Bucket"] == "b"

    async def test_several_deliveries_go_on_at_once(self, target: Target, sink: Sink) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(target.deliver([message(number, f"k{number}")]))
        assert sorted(sequences(sink.documents())) == [0, 1, 2, 3]

    @pytest.mark.parametrize("how", ["down", "busy", "silent", "garbage"])
    async def test_trouble_is_unavailable_and_passes(
        self, target: Target, sink: Sink, how: str
    ) -> None:
        sink.spoil(how)
        with pytest.raises(TargetUnavailable):
            await target.deliver([message(1)])
        sink.spoil("")
        await target.deliver([message(2)])
        assert sequences(sink.documents())[-1] == 2

    async def test_what_will_never_be_taken_is_refused(self, target: Target, sink: Sink) -> None:
        sink.spoil("refuse")
        with pytest.raises(TargetRefused):
            await target.deliver([message(1)])
        assert not sequences(sink.documents())

    async def test_keys_of_any_letters_are_delivered(self, target: Target, sink: Sink) -> None:
        await target.deliver([message(1, "a b/é\u2028\x01+&%.jpg")])
        found = json.dumps(sink.documents()[0])
        assert "a+b/%C3%A9%E2%80%A8%01%2B%26%25.jpg" in found
