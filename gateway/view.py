"""What workers know of the network: miners and leases, as rows of the catalog.

The catalog process learns them from the ledger and from the miners, and writes them; workers read
them with the snapshot that they read everything else with. So a worker that starts while the
ledger is away serves at once. Rows in Space.META, see docs/specs/catalog-records.md.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from chain.ids import AccountId
from gateway.catalog.interface import Catalog, Put, Space
from gateway.store import Lease
from miner.placement import MinerInfo

_MINERS = b"miners"
# Leases of single accounts would be rows `lease/ACCOUNT`; this one is everybody's.
_NETWORK_LEASE = b"lease/"


class _MinerRow(msgspec.Struct, frozen=True, array_like=True):
    id: bytes
    address: str
    domain: str
    free_bytes: int
    lost: bool
    away: bool = False


class _LeaseRow(msgspec.Struct, frozen=True, array_like=True):
    id: bytes
    ceiling: int


_encode = msgspec.msgpack.Encoder().encode
_decode_miners = msgspec.msgpack.Decoder(list[_MinerRow]).decode
_decode_lease = msgspec.msgpack.Decoder(_LeaseRow).decode


def miners_row(miners: Sequence[MinerInfo]) -> Put:
    """The row that says who the miners are."""
    rows = [_MinerRow(m.id, m.address, m.domain, m.free_bytes, m.lost, m.away) for m in miners]
    return Put(Space.META, _MINERS, _encode(rows))


def network_lease_row(lease: Lease) -> Put:
    """The row of the lease that every account without its own draws on."""
    return Put(Space.META, _NETWORK_LEASE, _encode(_LeaseRow(lease.id, lease.ceiling)))


@lru_cache(maxsize=1024)
def _lease_of(raw: bytes) -> Lease:
    row = _decode_lease(raw)
    return Lease(row.id, row.ceiling)


class CatalogMiners:
    """A MinerDirectory read from the catalog; parsed again only when the row changed."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._raw: bytes | None = None
        self._miners: dict[AccountId, MinerInfo] = {}

    def all(self) -> Sequence[MinerInfo]:
        """See MinerDirectory."""
        self._refresh()
        return tuple(self._miners.values())

    def get(self, miner: AccountId) -> MinerInfo | None:
        """See MinerDirectory."""
        found = self._miners.get(miner)
        if found is None:
            self._refresh()
            found = self._miners.get(miner)
        return found

    def _refresh(self) -> None:
        with self._catalog.read() as reader:
            raw = reader.get(Space.META, _MINERS)
        if raw is not None and raw != self._raw:
            self._raw = raw
            self._miners = {
                AccountId(row.id): MinerInfo(
                    AccountId(row.id),
                    row.address,
                    row.domain,
                    row.free_bytes,
                    row.lost,
                    row.away,
                )
                for row in _decode_miners(raw)
            }


class CatalogLeases:
    """The Leases of gateway/store.py: one lease of the network's owner serves every account."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def lease(self, account: str) -> Lease | None:
        """See Leases."""
        with self._catalog.read() as reader:
            raw = reader.get(Space.META, _NETWORK_LEASE + account.encode())
            if raw is None:
                raw = reader.get(Space.META, _NETWORK_LEASE)
        if raw is None:
            return None
        return _lease_of(raw)
