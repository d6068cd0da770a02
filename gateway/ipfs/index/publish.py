"""IpfsPublisher: the catalog rows that put an object version on IPFS, and take it off.

Pure: rows in, changes out; ObjectService commits them with the version itself.
"""

from collections.abc import AsyncIterator, Iterator

from chain.cids import RAW, Cid
from chain.net.transport import Buffer
from gateway.catalog.interface import Append, Change, Delete, Put, Reader, Space
from gateway.ipfs.codecs import dagpb, unixfs
from gateway.ipfs.codecs.unixfs import DIGEST_BYTES, FileDag
from gateway.ipfs.index import rows
from gateway.ipfs.index.packing import BLOCKS_MAX, PackBody
from gateway.model import Bucket, ObjectVersion
from gateway.records import PublishJob, encode
from gateway.versions import PUBLISH_JOBS

# A catalog record takes 65,535 changes and 16 MiB; the rows of 16 GiB of file take 1.3 MiB.
LEAVES_MAX = 16_384


class IpfsPublisher:
    """The Publisher of gateway/store.py."""

    def rows(
        self, bucket: Bucket, key: str, uid: bytes, size: int, leaves: bytes
    ) -> tuple[str, list[Change]]:
        """(CID text, rows). `leaves`: packed SHA2-256 digests of each MiB (none: an empty file).

        A file beyond LEAVES_MAX leaves gets its CID now and its rows by a job.
        """
        dag = unixfs.build_file(size, leaves or unixfs.EMPTY_DIGEST)
        if unixfs.leaf_count(size) > LEAVES_MAX:
            job = PublishJob(bucket.name, bucket.id, key, uid)
            return str(dag.root), [Append(Space.JOBS, PUBLISH_JOBS, encode(job))]
        changes: list[Change] = [*block_rows(dag, uid, leaves or unixfs.EMPTY_DIGEST)]
        changes.append(version_row(bucket, key, uid, dag))
        return str(dag.root), changes

    def pack(self, body: AsyncIterator[Buffer]) -> PackBody:
        """See gateway/store.py."""
        return PackBody(body)

    def switched_on(self, bucket_id: bytes) -> list[Change]:
        """Without its row the bucket is not done: what came while it was off has no CID yet."""
        return [Delete(Space.JOBS, rows.job_key(bucket_id))]

    def unpublish_rows(self, reader: Reader, version: ObjectVersion, uid: bytes) -> list[Change]:
        """The changes that remove the version's rows; other holders of its blocks keep theirs.

        The row of the version goes, and with it every block is unserved. Where there are more than
        LEAVES_MAX blocks, a job removes the rest.
        """
        del version  # the row knows the root
        row_key = rows.version_key(uid)
        value = reader.get(Space.BLOCKS, row_key)
        if value is None:
            return []
        record = rows.published_version(value)
        changes: list[Change] = [Delete(Space.BLOCKS, row_key)]
        if not record.root:
            gone, left = pack_keys(reader, uid, BLOCKS_MAX // rows.LISTED_MAX)
            if left:
                return [*changes, sweep_of_pack(uid)]
            return [*changes, *(Delete(Space.BLOCKS, key) for key in gone)]
        if unixfs.leaf_count(record.size) > LEAVES_MAX:
            sweep = rows.SweepJob(record.root, 0)
            return [*changes, Put(Space.JOBS, rows.SWEEP_JOBS + uid, rows.pack(sweep))]
        leaves, nodes = block_keys(reader, Cid(record.root), uid)
        return [*changes, *(Delete(Space.BLOCKS, key) for key in (*leaves, *nodes))]


def pack_keys(reader: Reader, uid: bytes, lists: int) -> tuple[list[bytes], bool]:
    """Keys of rows of a pack's blocks and of `lists` of its lists, and whether it has more."""
    prefix = rows.lists_prefix(uid)
    found = reader.scan(Space.BLOCKS, prefix, rows.after(prefix), lists + 1)
    keys: list[bytes] = []
    for key, value in found[:lists]:
        keys += [rows.packed_key(multihash, uid) for multihash in rows.listed(value)]
        keys.append(key)
    return keys, len(found) > lists


def sweep_of_pack(uid: bytes) -> Put:
    """The job that removes the rows of a pack's blocks."""
    return Put(Space.JOBS, rows.SWEEP_JOBS + uid, rows.pack(rows.SweepJob(b"", 0)))


def version_row(bucket: Bucket, key: str, uid: bytes, dag: FileDag) -> Put:
    """The row that makes a version's blocks public."""
    record = rows.PublishedVersion(bucket.name, bucket.id, key, dag.size, dag.root.raw, dag.total)
    return Put(Space.BLOCKS, rows.version_key(uid), rows.pack(record))


def block_rows(dag: FileDag, uid: bytes, leaves: bytes) -> Iterator[Put]:
    """The rows of a file's blocks: leaves, then nodes."""
    for number in range(len(leaves) // DIGEST_BYTES):
        digest = leaves[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        key = rows.leaf_key(b"\x12\x20" + digest, uid, number)
        yield Put(Space.BLOCKS, key, rows.LEAF)
    for cid, block in dag.nodes:
        yield Put(Space.BLOCKS, rows.node_key(cid.multihash, uid), rows.NODE + block)


def block_keys(reader: Reader, root: Cid, uid: bytes) -> tuple[list[bytes], list[bytes]]:
    """Keys of a file's leaf rows and of its node rows, found by walking its stored nodes."""
    leaves: list[bytes] = []
    nodes: list[bytes] = []
    waiting = [root]
    while waiting:
        cid = waiting.pop()
        if cid.codec == RAW:
            leaves.append(rows.leaf_key(cid.multihash, uid, len(leaves)))
            continue
        key = rows.node_key(cid.multihash, uid)
        nodes.append(key)
        value = reader.get(Space.BLOCKS, key)
        if value is not None:
            waiting += [link.cid for link in reversed(dagpb.decode(value[1:]).links)]
    return leaves, nodes
