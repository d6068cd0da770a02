"""What all commands have: the store behind them, and where they may write. And what they ask of it
about itself: version, id, swarm, repo.
"""

import base64
import platform
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import base58

from chain.cids import Cid
from chain.clock import Clock, Entropy
from chain.net.transport import Buffer
from gateway.catalog.interface import Catalog
from gateway.errors import BucketAlreadyOwnedByYou, NoSuchBucket
from gateway.ipfs.api.call import Call, Reply, Value
from gateway.ipfs.api.errors import ApiError
from gateway.ipfs.api.paths import parse_cid
from gateway.ipfs.codecs.dagpb import Link
from gateway.ipfs.index.blocks import BlockIndex
from gateway.ipfs.index.collect import Collector
from gateway.ipfs.index.deny_files import DenyFiles
from gateway.ipfs.index.mfs import Mfs
from gateway.ipfs.index.packs import Packs
from gateway.ipfs.index.pins import Pins
from gateway.ipfs.index.reader import BlockReader
from gateway.ipfs.index.tokens import API_BUCKET, Tokens
from gateway.ipfs.ipns.keybook import KeyBook
from gateway.ipfs.pinning.requests import Requests
from gateway.ipfs.web.request import ContentPath
from gateway.ipfs.web.serving import NameSystem
from gateway.ipfs.web.stream import content
from gateway.ipfs.web.walk import Content, Entity, Folder, Resolved, Walker
from gateway.model import Account, Bucket
from gateway.objects import ObjectService

_AGENT = f"cumulus/{metadata.version('cumulus')}"


@dataclass(frozen=True, slots=True)
class Node:
    """One worker's store as the commands see it."""

    objects: ObjectService
    catalog: Catalog
    index: BlockIndex
    packs: Packs
    pins: Pins
    collector: Collector
    requests: Requests  # of the pinning service
    tokens: Tokens
    clock: Clock
    owner: Callable[[], Account | None]  # the first account: the default bucket is its own
    public_key: bytes  # of the network's identity, Ed25519
    names: NameSystem
    keys: KeyBook  # of IPNS

    @classmethod
    def over(
        cls,
        objects: ObjectService,
        catalog: Catalog,
        clock: Clock,
        entropy: Entropy,
        *,
        owner: Callable[[], Account | None],
        public_key: bytes,
        names: NameSystem,
        keys: KeyBook,
        deny: DenyFiles | None = None,
    ) -> "Node":
        """All parts over an object service and its catalog.

        What `deny` blocks is not read; pins and collections see what is there.
        """
        index = BlockIndex(objects, catalog)
        packs = Packs(objects, index, clock, entropy)
        pins = Pins(catalog, index, packs, clock, entropy)
        return cls(
            objects,
            catalog,
            BlockIndex(objects, catalog, deny),
            packs,
            pins,
            Collector(objects, catalog, index, packs, clock, entropy),
            Requests(catalog, pins, clock, entropy),
            Tokens(catalog, clock, entropy),
            clock,
            owner,
            public_key,
            names,
            keys,
        )

    async def root(self, path: ContentPath) -> Cid:
        """The CID at the beginning of a path; of a name, where it leads. Raises IpfsError."""
        if path.namespace == "ipfs":
            return parse_cid(path.root)
        return (await self.resolve(path)).roots[-1]

    async def resolve(self, path: ContentPath) -> Resolved:
        """What a path leads to. Raises IpfsError, StoreError."""
        if path.namespace == "ipns":
            path = (await self.names.resolve(path)).path
        return await self.walker().resolve(parse_cid(path.root), path.segments)

    def reader(self) -> BlockReader:
        """What one walk reads, within bounds of its own."""
        return BlockReader(self.index, self.clock)

    def walker(self) -> Walker:
        """A walk of many blocks: it reads ahead, has bounds, and gives others their turn."""
        return Walker(self.reader())

    @property
    def mfs(self) -> Mfs:
        """The trees of buckets."""
        return Mfs(self.catalog, self.packs, self.pins, self.block)

    async def block(self, cid: Cid) -> bytes:
        """A block's bytes. Raises NotFound, StoreError."""
        return await self.reader().block(cid)

    async def entity(self, cid: Cid) -> Entity:
        """What a CID is. Raises NotFound, NotAcceptable, StoreError."""
        return await self.walker().entity(cid)

    async def folder(self, cid: Cid) -> Folder:
        """A directory. Raises ApiError (it is none), NotFound, StoreError."""
        entity = await self.entity(cid)
        if not isinstance(entity, Folder):
            raise ApiError(f"{cid} is no directory")
        return entity

    async def entries(self, folder: Folder) -> Sequence[Link]:
        """A directory's entries. Raises NotFound, StoreError."""
        return await self.walker().entries(folder)

    def content(self, entity: Content, start: int, end: int) -> AsyncGenerator[Buffer, None]:
        """Bytes [start, end) of a file. Raises NotFound, StoreError."""
        return content(self.reader(), entity, start, end)

    async def bucket(self, call: Call) -> Bucket:
        """The bucket that a call writes to. Raises as `bucket_named`."""
        return await self.bucket_named(call.bucket)

    async def bucket_named(self, name: str) -> Bucket:
        """The bucket of a token, else ("") the default, made on first use.

        Raises ApiError: it publishes nothing, so nothing could be read back; StoreError.
        """
        chosen, name = name, name or API_BUCKET
        owner = self.owner()
        try:
            bucket = self.objects.bucket(name)
        except NoSuchBucket:
            if chosen or owner is None:
                raise
            bucket = await self._made(owner)
        if not chosen and (owner is None or bucket.owner.id != owner.id):
            raise ApiError(f"bucket {name} belongs to another account: name one by a token")
        if not bucket.publishes:
            raise ApiError(f"bucket {name} does not publish: cumulus ipfs publish {name} on")
        return bucket

    async def _made(self, owner: Account) -> Bucket:
        with suppress(BucketAlreadyOwnedByYou):  # made by another worker a moment ago
            await self.objects.create_bucket(owner, API_BUCKET)
        return await self.objects.configure_bucket(API_BUCKET, publishes=True)


def peer_id(public_key: bytes) -> str:
    """The libp2p peer id of an Ed25519 key: base58btc of the identity multihash of its protobuf."""
    return base58.b58encode(b"\x00\x24" + _protobuf(public_key)).decode()


def _protobuf(public_key: bytes) -> bytes:
    return b"\x08\x01\x12\x20" + public_key


async def version(_node: Node, _call: Call) -> Reply:
    """What runs here."""
    system = f"{platform.machine()}/{platform.system().lower()}"
    return Value(
        {
            "Version": metadata.version("cumulus"),
            "Commit": "",
            "Repo": "1",
            "System": system,
            "Golang": "",
        }
    )


async def identity(node: Node, _call: Call) -> Reply:
    """Who this is. No addresses: nobody connects by libp2p."""
    return Value(
        {
            "ID": peer_id(node.public_key),
            "PublicKey": base64.b64encode(_protobuf(node.public_key)).decode(),
            "Addresses": [],
            "AgentVersion": _AGENT,
            "Protocols": [],
        }
    )


async def swarm_peers(_node: Node, _call: Call) -> Reply:
    """No peers: blocks are with miners."""
    return Value({"Peers": []})


async def swarm_addresses(_node: Node, _call: Call) -> Reply:
    """No addresses either."""
    return Value({"Addrs": {}})


async def swarm_strings(_node: Node, _call: Call) -> Reply:
    """Lists of addresses: none."""
    return Value({"Strings": []})


COMMANDS: Mapping[str, Any] = {
    "version": version,
    "id": identity,
    "swarm/peers": swarm_peers,
    "swarm/addrs": swarm_addresses,
    "swarm/addrs/local": swarm_strings,
    "swarm/addrs/listen": swarm_strings,
}
