"""A miner's answers."""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from chain.ids import ID_BYTES, AccountId, SegmentId
from chain.keys.identity import Identity
from chain.net.transport import Caller, Handlers, Payload, RemoteError
from chain.proofs import merkle
from chain.receipts import StorageReceipt, fragment_leaf, sign_receipt
from miner import protocol
from miner.access import Access
from miner.fragment import KEY_BYTES, InvalidFragment, describe, fragment_key
from miner.protocol import (
    Checked,
    CheckFragment,
    DropFragments,
    Dropped,
    FragmentBytes,
    FragmentList,
    Held,
    Inventory,
    InventoryPage,
    Listed,
    ListFragments,
    NewFragment,
    Outcome,
    ReadFragment,
    SpaceFigures,
    SpaceReport,
    StoredFragments,
    StoreFragments,
)
from miner.scrub_state import ScrubState
from miner.segments import Profile
from miner.store.interface import (
    Batch,
    FragmentStore,
    NoSuchFragment,
    StoreBusy,
    Stored,
    StoreError,
    StoreFull,
    WrongFragment,
)

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

_SIGNED_KEPT = 64
_CODES: tuple[tuple[type[StoreError], str], ...] = (
    (WrongFragment, protocol.WRONG_FRAGMENT),
    (NoSuchFragment, protocol.NO_SUCH_FRAGMENT),
    (StoreFull, protocol.FULL),
    (StoreBusy, protocol.BUSY),
)
R = TypeVar("R", bound=msgspec.Struct)


class _Signed(NamedTuple):
    receipt: StorageReceipt
    paths: list[tuple[bytes, ...]]


class MinerService:
    """The handler table of one miner.

    `access` says who may use it over an authenticated transport; on a machine-local channel (ipc,
    mode 0700) everybody may. A fragment belongs to whoever stored it: nobody else drops it.
    """

    def __init__(
        self,
        store: FragmentStore,
        identity: Identity,
        access: Access | None = None,
        scrub: ScrubState | None = None,
    ) -> None:
        self.active = 0  # asks that are being answered
        self._store = store
        self._identity = identity
        self._access = access or Access()
        self._scrub = scrub or ScrubState()
        self._signed: OrderedDict[int, _Signed] = OrderedDict()

    def handlers(self) -> Handlers:
        """What the miner serves."""
        return (
            Handlers()
            .on(StoreFragments, self._guard(self.store_fragments, self._access.may_store))
            .on(ReadFragment, self._guard(self.read_fragment, self._access.may_read))
            .on(CheckFragment, self._guard(self.check_fragment, self._access.may_read))
            .on(DropFragments, self._guard(self.drop_fragments, self._access.may_store))
            .on(Inventory, self._guard(self.inventory, self._access.may_store))
            .on(ListFragments, self._guard(self.list_fragments, self._access.may_store))
            .on(SpaceReport, self._guard(self.space_report, self._access.may_read))
        )

    def _guard(
        self, handler: Callable[[Any, Caller], Awaitable[R]], may: Callable[[AccountId], bool]
    ) -> Callable[[Any, Caller], Awaitable[R]]:
        """Admit the caller and turn the store's errors into codes."""

        async def guarded(message: Any, caller: Caller) -> R:
            if not caller.local and (caller.identity is None or not may(caller.identity)):
                raise RemoteError(protocol.NOT_ALLOWED, "this miner does not serve you")
            self.active += 1
            try:
                return await handler(message, caller)
            except StoreError as error:
                raise RemoteError(_code(error), str(error)) from error
            except InvalidFragment as error:
                raise RemoteError(protocol.BAD_REQUEST, str(error)) from error
            finally:
                self.active -= 1

        return guarded

    async def store_fragments(self, message: StoreFragments, caller: Caller) -> StoredFragments:
        """Verify, make durable, and give the receipt of each group commit with a path for each."""
        if not 1 <= len(message.fragments) <= protocol.STORE_MAX:
            raise RemoteError(protocol.BAD_REQUEST, "too few or too many fragments")
        owner = None if caller.local else caller.identity
        puts = [self._put(fragment, owner) for fragment in message.fragments]
        receipts: dict[StorageReceipt, int] = {}
        try:
            outcomes = [await self._outcome(put, receipts) for put in puts]
        finally:
            for put in puts:
                if not isinstance(put, Outcome):
                    put.cancel()
        return StoredFragments(tuple(receipts), tuple(outcomes))

    def _put(
        self, fragment: NewFragment, owner: AccountId | None
    ) -> "asyncio.Future[Stored] | Outcome":
        """Hand a fragment to the store, or refuse it."""
        profile = Profile(fragment.profile, fragment.k, fragment.m)
        try:
            record = describe(profile, fragment.length, fragment.fragments, fragment.index)
            return self._store.put(record, fragment.payload.buffer, owner)
        except InvalidFragment as error:
            return Outcome(code=protocol.BAD_REQUEST, reason=str(error))
        except StoreError as error:
            return Outcome(code=_code(error), reason=str(error))

    async def _outcome(
        self, put: "asyncio.Future[Stored] | Outcome", receipts: dict[StorageReceipt, int]
    ) -> Outcome:
        """What became of it; a receipt that is not yet among `receipts` is added."""
        if isinstance(put, Outcome):
            return put
        try:
            stored = await put
        except StoreError as error:
            return Outcome(code=_code(error), reason=str(error))
        signed = self._sign(stored.batch)
        receipt = receipts.setdefault(signed.receipt, len(receipts))
        return Outcome(receipt, stored.position, signed.paths[stored.position])

    async def read_fragment(self, message: ReadFragment, caller: Caller) -> FragmentBytes:
        """Bytes of a fragment, unchecked: the reader checks."""
        key = _key(message.segment, message.index)
        entry = self._store.find(key)
        if entry is None:
            raise NoSuchFragment(key.hex())
        start, end = message.start, message.end
        if not 0 <= start <= end <= entry.size or end - start > protocol.READ_MAX:
            raise RemoteError(protocol.BAD_REQUEST, f"no bytes {start}..{end} of {entry.size}")
        return FragmentBytes(Payload(await self._store.read(key, start, end, caller.room)))

    async def check_fragment(self, message: CheckFragment, _: Caller) -> Checked:
        """Read and hash; a damaged fragment is dropped, so that it can be stored anew."""
        key = _key(message.segment, message.index)
        if self._store.find(key) is None:
            return Checked(present=False, whole=False)
        whole = await self._store.verify(key)
        if not whole:
            if await self._store.drop_damaged([key]):
                log.error("fragment %s is damaged on disk and was dropped", key.hex())
            whole = self._store.find(key) is not None  # stored anew meanwhile
        return Checked(present=True, whole=whole)

    async def drop_fragments(self, message: DropFragments, caller: Caller) -> Dropped:
        """Forget for good. What another account stored stays, and is not counted."""
        keys = message.keys
        if len(keys) > protocol.KEYS_MAX or any(len(key) != KEY_BYTES for key in keys):
            raise RemoteError(protocol.BAD_REQUEST, "not a list of fragment keys")
        if not caller.local:
            keys = tuple([key for key in keys if await self._belongs(key, caller.identity)])
        return Dropped(await self._store.drop(keys))

    async def _belongs(self, key: bytes, account: AccountId | None) -> bool:
        try:
            return await self._store.owner(key) == account
        except StoreError:
            return False  # not here, or so damaged that a check drops it

    async def inventory(self, message: Inventory, _: Caller) -> InventoryPage:
        """A page of what is here, with records: the placement map can be rebuilt from it."""
        if not 1 <= message.limit <= protocol.KEYS_MAX or len(message.after) > KEY_BYTES:
            raise RemoteError(protocol.BAD_REQUEST, "no such page")
        held: list[Held] = []
        for key, entry in self._store.scan(message.after, message.limit):
            try:
                record = (await self._store.record(key)).encode()
            except StoreError:
                record = b""  # damaged or dropped meanwhile: the key alone is known
            held.append(Held(key, record, entry.time_ns, entry.confirmed))
        return InventoryPage(tuple(held))

    async def list_fragments(self, message: ListFragments, _: Caller) -> FragmentList:
        """A page of keys, from the index alone: what a survey compares placements with."""
        after, until = message.after, message.until
        if not 1 <= message.limit <= protocol.KEYS_MAX or max(len(after), len(until)) > KEY_BYTES:
            raise RemoteError(protocol.BAD_REQUEST, "no such page")
        return FragmentList(
            tuple(
                Listed(key, entry.size, entry.time_ns, entry.confirmed)
                for key, entry in self._store.scan(after, message.limit)
                if not until or key <= until
            )
        )

    async def space_report(self, _: SpaceReport, __: Caller) -> SpaceFigures:
        """How full it is."""
        space = self._store.space()
        return SpaceFigures(
            self._identity.id,
            space.pledged,
            space.used,
            space.free,
            space.reserved,
            space.fragments,
            self._scrub.finished_ns,
            self._scrub.damaged,
        )

    def _sign(self, batch: Batch) -> _Signed:
        """One signature for all who share a commit: 16 µs and 1-2 µs a fragment."""
        signed = self._signed.get(batch.number)
        if signed is None:
            root, paths = merkle.tree([fragment_leaf(*fragment) for fragment in batch.fragments])
            total = sum(size for _, size in batch.fragments)
            count = len(batch.fragments)
            receipt = sign_receipt(self._identity, root, count, total, batch.time_ns)
            signed = self._signed[batch.number] = _Signed(receipt, paths)
            if len(self._signed) > _SIGNED_KEPT:
                self._signed.popitem(last=False)
        return signed


def _key(segment: bytes, index: int) -> bytes:
    if len(segment) != ID_BYTES or not 0 <= index < 255:
        raise RemoteError(protocol.BAD_REQUEST, "not a segment id and an index")
    return fragment_key(SegmentId(segment), index)


def _code(error: StoreError) -> str:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return protocol.FAILED
