"""Who may use a miner from other machines. The answers come from memory."""

from dataclasses import dataclass

from chain.ids import AccountId
from chain.members import Members


@dataclass(frozen=True, slots=True)
class Access:
    """Registered gateways store and read, registered edges read, `allowed` accounts do both."""

    allowed: frozenset[AccountId] = frozenset()
    members: Members | None = None

    def may_read(self, account: AccountId) -> bool:
        """Sealed bytes, space, checks."""
        if account in self.allowed:
            return True
        return self.members is not None and self.members.is_reader(account)

    def may_store(self, account: AccountId) -> bool:
        """Store fragments, drop its own, list what is here."""
        if account in self.allowed:
            return True
        return self.members is not None and self.members.is_gateway(account)

    def gateway_address(self, account: AccountId) -> str | None:
        """Where a registered gateway is reached."""
        return None if self.members is None else self.members.gateways.get(account)
