"""Second keys: what a client's key or a KMS key keeps closed, in the object path itself."""

import base64
import hashlib
import pickle
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.interface import Space
from gateway.errors import (
    CustomerKeyMissing,
    CustomerKeyWrong,
    InvalidPart,
    InvalidRequest,
    KmsKeyDisabled,
    KmsKeyNotFound,
)
from gateway.keys import KeyMissing, unwrap
from gateway.kms import canonical_id, default_id, key_arn
from gateway.model import (
    SSE_C,
    SSE_S3,
    Algorithm,
    Attributes,
    CompletedPart,
    Encryption,
    Extra,
    ObjectVersion,
)
from gateway.protection import CustomerKey
from gateway.records import KmsKeyRow, PartRow, UploadRow, VersionRow, decode, kms_prefix
from gateway.store import account_keys
from gateway.versions import version_row
from tests.unit.object_parts import MIB, FakePublisher, World, stream

SECRET = random.Random(3).randbytes(32)
KEY, OTHER = CustomerKey(SECRET), CustomerKey(random.Random(4).randbytes(32))
BODY = random.Random(2).randbytes(300_000)
SMALL = b"a few bytes"


def encrypted(algorithm: str, **rest: Any) -> Attributes:
    return Attributes(extra=Extra(encryption=Encryption(algorithm, **rest)))


async def put(world: World, key: str, body: bytes, encryption: Attributes, customer: Any = None,
              **more: Any) -> ObjectVersion:  # fmt: skip
    return await world.objects.put(
        world.bucket, key, stream(body), encryption, length=len(body), customer=customer, **more
    )


async def kms(world: World, name: str = "team", **rest: Any) -> Attributes:
    return encrypted("aws:kms", key=await world.objects.kms.usable(world.bucket, name), **rest)


async def read(world: World, version: ObjectVersion, customer: CustomerKey | None = None) -> bytes:
    pieces = world.objects.read(version, 0, version.size, customer)
    return b"".join([bytes(piece) async for piece in pieces])


# ------------------------------------------------------------------ SSE-C
@pytest.mark.parametrize("body", [b"", SMALL, BODY])
async def test_all_that_the_store_holds_does_not_open_an_object_under_a_client_s_key(
    world: World, body: bytes
) -> None:
    version = await put(world, "k", body, encrypted(SSE_C), KEY)
    row = version_row(version)
    with world.catalog.read() as reader:
        keys = account_keys(reader, "ann")
    assert row.key != b""
    assert len(row.key) == 48
    # The keystore's own key opens the outer wrap, and what is inside is not the version key.
    with pytest.raises(KeyMissing):
        world.keys.unwrap_for(keys, row.generation, row.key)
    inner = unwrap(row.key, world.keys._kek(keys, row.generation), 40)
    for candidate in (world.keys._kek(keys, row.generation), bytes(32), keys.owner):
        with pytest.raises(KeyMissing):
            unwrap(inner, candidate)
    with pytest.raises(KeyMissing):
        unwrap(row.streams[0].key, world.keys._kek(keys, row.generation))
    if body:
        with pytest.raises(CustomerKeyMissing):
            await read(world, version)
        with pytest.raises(CustomerKeyWrong):
            await read(world, version, OTHER)
    assert await read(world, version, KEY) == body
    with pytest.raises(CustomerKeyMissing):
        world.objects.opened(version, None)


async def test_a_read_with_the_right_key_opens_nothing_for_the_next(world: World) -> None:
    version = await put(world, "k", BODY, encrypted(SSE_C), KEY)
    assert await read(world, version, KEY) == BODY
    for wrong, error in ((None, CustomerKeyMissing), (OTHER, CustomerKeyWrong)):
        with pytest.raises(error):
            await read(world, version, wrong)
    assert not world.objects._contents._cached


async def test_nothing_of_a_client_s_key_is_in_any_row(world: World) -> None:
    await put(world, "k", SMALL, encrypted(SSE_C), KEY, algorithms=frozenset({Algorithm.MD5}),
              keep=Algorithm.SHA256)  # fmt: skip
    for key in "mn":
        upload = await world.objects.create_upload(
            world.bucket, key, encrypted(SSE_C), algorithm=Algorithm.SHA256, customer=KEY
        )
        part = await world.objects.put_part(upload, 1, stream(BODY), customer=KEY)
    made = await world.objects.complete_upload(upload, [CompletedPart(1, part.etag)], customer=KEY)
    assert made.checksum is not None
    digest = hashlib.md5(SECRET).digest()
    forms = [SECRET, SECRET.hex().encode(), base64.b64encode(SECRET), digest,
             base64.b64encode(digest), KEY.wrapping_key()]  # fmt: skip
    rows = [raw for space in Space for pair in world.rows(space) for raw in pair]
    assert sum(map(len, rows)) > 1000
    told = [hashlib.md5(body).digest() for body in (SMALL, BODY)]
    told += [hashlib.sha256(body).digest() for body in (SMALL, BODY)] + [made.checksum.digest]
    for raw in rows:
        assert not any(form in raw for form in (*forms, *told))


@pytest.mark.parametrize("keep", [Algorithm.CRC32, Algorithm.CRC64NVME, Algorithm.SHA256])
async def test_checksums_are_seen_with_the_client_s_key_alone(
    world: World, keep: Algorithm
) -> None:
    plain = await put(world, "plain", BODY, Attributes(), keep=keep)
    version = await put(world, "k", BODY, encrypted(SSE_C), KEY, keep=keep)
    copied = await world.objects.copy(
        version, world.bucket, "c", attributes=encrypted(SSE_C), source_key=KEY, customer=KEY
    )
    out = await world.objects.copy(copied, world.bucket, "out", source_key=KEY)
    assert version.checksum == copied.checksum == out.checksum == plain.checksum
    assert plain.checksum is not None
    for key in ("k", "c"):
        seen = world.objects.head(world.bucket, key)
        assert seen.checksum is None
        assert world.objects.opened(seen, KEY).checksum == plain.checksum
        with pytest.raises(CustomerKeyWrong):
            world.objects.opened(seen, OTHER)
    assert world.objects.opened(plain, None) is plain
    listed = world.objects.list_objects(world.bucket).objects
    assert {one.checksum.algorithm for one in listed if one.checksum} == {keep}


@pytest.mark.parametrize("customer", [KEY, None])
async def test_an_upload_is_completed_without_its_key_and_then_without_a_checksum(
    world: World, customer: CustomerKey | None
) -> None:
    upload = await world.objects.create_upload(
        world.bucket, "m", encrypted(SSE_C), algorithm=Algorithm.CRC32, customer=KEY
    )
    bodies = [bytes(5 * MIB), SMALL]
    parts = [
        await world.objects.put_part(upload, n, stream(body), customer=KEY)
        for n, body in enumerate(bodies, 1)
    ]
    crcs = [zlib.crc32(body).to_bytes(4, "big") for body in bodies]
    assert [part.checksum and part.checksum.digest for part in parts] == crcs
    listed, _ = world.objects.list_parts(upload)
    assert [part.checksum for part in listed] == [None, None]
    named = [
        CompletedPart(part.number, part.etag, crc) for part, crc in zip(parts, crcs, strict=True)
    ]
    if customer is not None:
        wrong = [named[0], CompletedPart(2, parts[1].etag, bytes(4))]
        with pytest.raises(InvalidPart):
            await world.objects.complete_upload(upload, wrong, customer=customer)
    for _ in range(2):  # the same again, when it is made
        made = await world.objects.complete_upload(upload, named, customer=customer)
        assert (made.checksum is not None) is (customer is not None)
    seen = world.objects.opened(world.objects.head(world.bucket, "m"), KEY)
    assert seen.checksum == made.checksum
    if customer is not None:
        assert [part.checksum and part.checksum.digest for part in seen.parts] == crcs
    assert await read(world, seen, KEY) == b"".join(bodies)


def test_a_client_s_key_shows_itself_nowhere() -> None:
    assert "CustomerKey(…)" == repr(KEY) == str(KEY) == f"{KEY}"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    assert KEY.same(CustomerKey(SECRET))
    assert not KEY.same(OTHER)
    assert not KEY.same(None)


async def test_a_copy_shares_its_source_s_bytes_only_under_the_same_client_s_key(
    world: World,
) -> None:
    plain, closed = Attributes(), encrypted(SSE_C)
    key_by = {"plain": (plain, None), "a": (closed, KEY), "b": (closed, OTHER),
              "s3": (encrypted(SSE_S3), None), "kms": (await kms(world), None)}  # fmt: skip
    for old, (attributes, old_key) in key_by.items():
        source = await put(world, "from", BODY, attributes, old_key)
        for new, (wanted, new_key) in key_by.items():
            copied = await world.objects.copy(
                source, world.bucket, "to", attributes=wanted,
                source_key=old_key, customer=new_key,
            )  # fmt: skip
            [one], [two] = version_row(source).streams, version_row(copied).streams
            shared = old == new or not {old, new} & {"a", "b"}
            assert (one.id == two.id) is shared, (old, new)
            assert one.key != two.key
            assert await read(world, copied, new_key) == BODY
            md5 = copied.etag == hashlib.md5(BODY).hexdigest()
            assert md5 is (new not in "ab"), (old, new)


async def test_each_part_takes_the_key_that_its_upload_began_with(world: World) -> None:
    upload = await world.objects.create_upload(world.bucket, "m", encrypted(SSE_C), customer=KEY)
    for wrong in (None, OTHER):
        with pytest.raises(InvalidRequest):
            await world.objects.put_part(upload, 1, stream(SMALL), customer=wrong)
    with pytest.raises(InvalidRequest):
        world.objects.check_upload_key(upload, OTHER)
    source = await put(world, "from", SMALL, encrypted(SSE_C), OTHER)
    parts = [
        await world.objects.put_part(upload, 1, stream(bytes(5 * MIB)), customer=KEY),
        await world.objects.copy_part(
            upload, 2, source, 0, len(SMALL), source_key=OTHER, customer=KEY
        ),
    ]
    named = [CompletedPart(part.number, part.etag) for part in parts]
    version = await world.objects.complete_upload(upload, named)
    assert version.etag.endswith("-2")
    assert await read(world, version, KEY) == bytes(5 * MIB) + SMALL
    again = world.objects.upload(world.bucket, "m", upload.upload_id)
    assert again.attributes.encryption == Encryption(SSE_C)


async def test_what_has_a_second_key_is_never_published() -> None:
    world = await World(publisher=FakePublisher()).start()
    world.bucket = await world.objects.configure_bucket("photos", publishes=True)
    for attributes, customer in ((encrypted(SSE_C), KEY), (await kms(world), None)):
        version = await put(world, "k", BODY, attributes, customer)
        assert version.cid is None
        assert version.attributes.hidden
        upload = await world.objects.create_upload(world.bucket, "m", attributes, customer=customer)
        part = await world.objects.put_part(upload, 1, stream(BODY), customer=customer)
        # The digests of leaves are part of what would be published.
        assert [decode(PartRow, raw).leaves for _, raw in world.rows(Space.PARTS)] == [b""]
        await world.objects.complete_upload(upload, [CompletedPart(1, part.etag)])
        copied = await world.objects.copy(
            version, world.bucket, "c", attributes=attributes,
            source_key=customer, customer=customer,
        )  # fmt: skip
        assert copied.cid is None
    assert not world.rows(Space.BLOCKS)
    assert not world.rows(Space.JOBS)
    assert (await put(world, "k", BODY, encrypted(SSE_S3))).cid is not None


async def test_rows_of_what_asks_for_nothing_are_as_long_as_ever(world: World) -> None:
    version = await put(world, "k", SMALL, Attributes())
    row = version_row(version)
    assert len(row.key) == 40
    assert row.extra is None


# ------------------------------------------------------------------ KMS
async def test_a_kms_key_is_made_once_and_closes_what_it_opens(world: World) -> None:
    attributes = await kms(world, context="eyJhIjoiYiJ9")
    version = await put(world, "k", BODY, attributes)
    assert await read(world, version) == BODY
    assert (await kms(world)).encryption == Encryption("aws:kms", "team")
    [(place, raw)] = [row for row in world.rows(Space.META) if row[0].startswith(b"kms/")]
    assert place == kms_prefix("ann") + b"team"
    assert decode(KmsKeyRow, raw).generation == 1
    await world.objects.kms.switch(world.account, "team", disabled=True)
    with pytest.raises(KmsKeyDisabled, match="team is disabled"):
        await read(world, version)
    with pytest.raises(KmsKeyDisabled):
        await kms(world)
    with pytest.raises(KmsKeyDisabled):
        await put(world, "other", BODY, attributes)
    with pytest.raises(KmsKeyDisabled):
        await world.objects.copy(version, world.bucket, "c", attributes=Attributes())
    assert [(key.id, key.disabled) for key in world.objects.kms.all(world.account)] == [
        ("team", True)
    ]
    await world.objects.kms.switch(world.account, "team", disabled=False)
    assert await read(world, version) == BODY


async def test_a_row_with_another_key_or_context_does_not_open(world: World) -> None:
    from msgspec.structs import replace

    from gateway.records import encode

    await kms(world, "second")
    version = await put(world, "k", SMALL, await kms(world, context="eyJhIjoiYiJ9"))
    for change in ({"key": "second"}, {"context": ""}, {"context": "eyJhIjoiYyJ9"},
                   {"algorithm": SSE_S3}):  # fmt: skip
        row = version_row(version)
        assert row.extra is not None
        assert row.extra.encryption is not None
        moved = replace(row, extra=Extra(encryption=replace(row.extra.encryption, **change)))
        with pytest.raises(KeyMissing):
            await read(world, replace(version, record=encode(moved)))


async def test_an_unknown_kms_key_is_refused_where_none_is_made() -> None:
    world = await World(kms_auto_create=False).start()
    for name, words in (("team", "Invalid keyId 'team'"),
                        ("1234abcd-12ab-34cd-56ef-1234567890ab", "Key 'arn:.*' does not exist"),
                        ("arn:aws:kms:eu:other:key/x", "Key 'arn:.*' does not exist")):  # fmt: skip
        with pytest.raises(KmsKeyNotFound, match=words):
            await world.objects.kms.usable(world.bucket, name)
    await world.objects.kms.create(world.account, "team")
    assert await world.objects.kms.usable(world.bucket, "team") == "team"
    assert await world.objects.kms.usable(world.bucket, "") == default_id("ann")
    with pytest.raises(KmsKeyNotFound):
        await world.objects.kms.switch(world.account, "none", disabled=True)


async def test_kms_keys_outlive_a_rotation_and_go_with_their_account(world: World) -> None:
    version = await put(world, "k", SMALL, await kms(world))
    await world.accounts.rotate_encryption_key("ann")
    later = await put(world, "l", SMALL, await kms(world))
    assert version_row(later).generation == 2
    assert [await read(world, one) for one in (version, later)] == [SMALL, SMALL]
    for key in "kl":
        await world.objects.delete(world.bucket, key)
    await world.objects.delete_bucket(world.bucket)
    await world.accounts.delete("ann")
    assert not [key for key, _ in world.rows(Space.META) if key.startswith(b"kms/")]


async def test_accounts_have_keys_of_their_own(world: World) -> None:
    bob = (await world.accounts.create("Bob", id="bob")).account
    other = await world.objects.create_bucket(bob, "other")
    await kms(world)
    version = await put(world, "k", SMALL, await kms(world))
    await world.objects.kms.usable(other, "team")
    await world.objects.kms.switch(bob, "team", disabled=True)
    assert await read(world, version) == SMALL
    assert default_id("ann") != default_id("bob")
    copied = await world.objects.copy(version, other, "k")
    assert copied.attributes.encryption is None
    assert await read(world, copied) == SMALL


async def test_an_upload_s_kms_key_is_asked_at_each_part(world: World) -> None:
    upload = await world.objects.create_upload(world.bucket, "m", await kms(world))
    [(_, raw)] = world.rows(Space.UPLOADS)
    assert len(decode(UploadRow, raw).key) == 48
    part = await world.objects.put_part(upload, 1, stream(SMALL))
    await world.objects.kms.switch(world.account, "team", disabled=True)
    with pytest.raises(KmsKeyDisabled):
        await world.objects.put_part(upload, 2, stream(SMALL))
    await world.objects.kms.switch(world.account, "team", disabled=False)
    version = await world.objects.complete_upload(upload, [CompletedPart(1, part.etag)])
    assert isinstance(version_row(version), VersionRow)
    assert await read(world, version) == SMALL


@given(st.text(max_size=300))
def test_any_key_id_is_a_name_or_refused(text: str) -> None:
    try:
        name = canonical_id(text, "ann")
    except KmsKeyNotFound:
        return
    assert 1 <= len(name) <= 256
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    assert canonical_id(name, "ann") == name


def test_names_of_keys_are_those_of_aws(world: World) -> None:
    uuid = "1234abcd-12ab-34cd-56ef-1234567890ab"
    arn = f"arn:aws:kms:us-east-1:ann:key/{uuid}"
    assert canonical_id(arn, "ann") == canonical_id(uuid, "ann") == uuid
    assert canonical_id("arn:aws:kms:x:ann:alias/mine", "ann") == "alias/mine"
    assert canonical_id("alias/aws/s3", "ann") == canonical_id("", "ann") == default_id("ann")
    assert canonical_id(arn, "bob") == arn
    for wrong in ("aws/s3", "arn:aws:kms:broken", "a b", "é", "x" * 257, "arn:aws:s3:::bucket"):
        with pytest.raises(KmsKeyNotFound):
            canonical_id(wrong, "ann")
    assert key_arn(world.bucket, uuid) == arn
    assert key_arn(world.bucket, "team") == "team"
