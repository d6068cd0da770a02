"""What the watch concludes from who answered where."""

from chain.ids import AccountId
from gateway.ledger import _replaced
from miner.placement import MinerInfo

OLD, NEW, OTHER = (AccountId(bytes([n]) * 32) for n in (1, 2, 3))


def at(account: AccountId, address: str, *, lost: bool = False) -> MinerInfo:
    return MinerInfo(account, address, "d", 1, lost)


def test_a_silent_miner_is_replaced_when_another_proves_itself_at_its_address() -> None:
    assert _replaced([(at(OLD, "tcp://a:1"), False), (at(NEW, "tcp://a:1"), True)]) == {OLD}


def test_silence_alone_replaces_nobody() -> None:
    assert not _replaced([(at(OLD, "tcp://a:1"), False), (at(NEW, "tcp://a:1"), False)])
    assert not _replaced([(at(OLD, "tcp://a:1"), False), (at(OTHER, "tcp://b:1"), True)])


def test_who_answers_is_never_replaced_by_its_neighbours() -> None:
    assert not _replaced([(at(OLD, "tcp://a:1"), True), (at(NEW, "tcp://a:1"), True)])
    gone = at(NEW, "tcp://a:1", lost=True)
    assert not _replaced([(at(OLD, "tcp://a:1"), False), (gone, True)])
