"""Accounts and access keys."""

import re
import stat
from pathlib import Path

import msgspec
import pytest

from chain.keys.keystore import Keystore
from gateway.accounts import AccountExists, AccountInUse, InvalidAccount, NoSuchAccount
from gateway.catalog.interface import Batch, Put, Space
from gateway.iam.rows import UserRow, place
from gateway.keys import FileOwnerKeys, KeyMissing, KeyRing
from gateway.records import AccessKeyRow, decode, encode
from tests.unit.object_parts import World


async def test_generated_keys_look_like_aws(world: World) -> None:
    made = await world.accounts.create("Bob")
    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", made.access_key)
    assert re.fullmatch(r"[A-Za-z0-9+/]{40}", made.secret_key)
    assert re.fullmatch(r"[0-9a-f]{64}", made.account.id)
    assert made.secret_key not in repr(made)


async def test_given_names_and_keys_are_kept(world: World) -> None:
    made = await world.accounts.create(
        "Zoë $ Co. 1", id="zoe", email="z@example.org", access_key="zoe-key", secret_key="a/b+c=de"
    )
    assert world.accounts.credential("zoe-key") == made
    assert world.accounts.show("zoe") == made.account
    assert [a.id for a in world.accounts.accounts()] == ["ann", "zoe"]
    assert world.accounts.credentials("zoe") == [made]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 129},
        {"name": "é" * 65},
        {"name": "line\nbreak"},
        {"id": "with space"},
        {"id": "é"},
        {"id": "x" * 129},
        {"email": "nobody"},
        {"email": "a@" + "b" * 300},
        {"access_key": "only-one"},
        {"access_key": "a b", "secret_key": "12345678"},
        {"access_key": "abc", "secret_key": "short"},
        {"access_key": "abc", "secret_key": "new\nline89"},
    ],
)
async def test_what_breaks_the_rules_is_refused(world: World, wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidAccount):
        await world.accounts.create(**({"name": "Bob"} | wrong))


async def test_ids_and_access_keys_are_taken_once(world: World) -> None:
    await world.accounts.create("Bob", id="bob", access_key="key", secret_key="12345678")
    for taken in ({"id": "bob"}, {"access_key": "key", "secret_key": "87654321"}):
        with pytest.raises(AccountExists):
            await world.accounts.create("Eve", **taken)
    with pytest.raises(AccountExists):
        await world.accounts.rotate_access_keys("ann", access_key="key", secret_key="87654321")


async def test_rotated_keys_replace_all_before(world: World) -> None:
    (old,) = world.accounts.credentials("ann")
    new = await world.accounts.rotate_access_keys("ann")
    assert world.accounts.credential(old.access_key) is None
    assert world.accounts.credentials("ann") == [new]
    same = await world.accounts.rotate_access_keys(
        "ann", access_key=new.access_key, secret_key="another-secret"
    )
    assert world.accounts.credentials("ann") == [same]


@pytest.mark.parametrize("key", ["", "x" * 500, "nobody", "\udcff"])
async def test_unknown_access_keys_are_nobodys(world: World, key: str) -> None:
    assert world.accounts.credential(key) is None


@pytest.mark.parametrize("account", ["", "x" * 500, "nobody"])
async def test_unknown_accounts_are_not_found(world: World, account: str) -> None:
    with pytest.raises(NoSuchAccount):
        world.accounts.show(account)
    with pytest.raises(NoSuchAccount):
        await world.accounts.rotate_encryption_key(account)


async def test_only_accounts_without_buckets_are_deleted(world: World) -> None:
    with pytest.raises(AccountInUse):
        await world.accounts.delete("ann")
    (credential,) = world.accounts.credentials("ann")
    await world.objects.delete_bucket(world.bucket)
    await world.accounts.delete("ann")
    assert world.accounts.credential(credential.access_key) is None
    assert world.accounts.accounts() == []


async def test_the_first_account_is_made_once_and_given_keys_replace_its_own() -> None:
    world = World()
    first = await world.accounts.bootstrap("owner")
    assert await world.accounts.bootstrap("owner") == first
    given = await world.accounts.bootstrap("owner", access_key="mine", secret_key="12345678")
    assert given.account == first.account
    assert await world.accounts.bootstrap("x", access_key="mine", secret_key="12345678") == given
    assert await world.accounts.bootstrap("owner") == given
    world.objects.close()


async def test_owner_keys_live_in_private_files(tmp_path: Path) -> None:
    entropy = World().keys._entropy
    owners = FileOwnerKeys(Keystore(tmp_path / "keys"), entropy)
    ring = KeyRing(owners, entropy)
    keys = ring.new_owner()
    generation, wrapped = ring.wrap_for(keys, b"v" * 32)
    again = KeyRing(owners, entropy)
    assert again.unwrap_for(keys, generation, wrapped) == b"v" * 32
    (file,) = (tmp_path / "keys").glob("*.key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for bad in ((keys, 2, wrapped), (keys, 0, wrapped), (keys, 1, b"x" * 40), (keys, 1, b"")):
        with pytest.raises(KeyMissing):
            again.unwrap_for(*bad)
    file.unlink()
    with pytest.raises(KeyMissing):
        KeyRing(owners, entropy).unwrap_for(keys, generation, wrapped)


async def test_users_and_their_keys_are_not_the_accounts_and_go_with_it(world: World) -> None:
    root = await world.accounts.create("Zoe", id="zoe")
    row = UserRow("AIDA1", "Ann", "/", 1, keys=("ann-key",))
    await world.catalog.commit(Batch((), (
        Put(Space.META, place("zoe", UserRow.kind, "Ann"), encode(row)),
        Put(Space.ACCESS_KEYS, b"ann-key", encode(AccessKeyRow("zoe", "ann-secret", 1, "ann"))),
    )))  # fmt: skip
    found = world.accounts.credential("ann-key")
    assert found is not None
    assert found.identity is not None
    assert (found.account, found.identity.arn) == (root.account, "arn:aws:iam::zoe:user/Ann")
    assert world.accounts.credentials("zoe") == [root]
    with pytest.raises(AccountExists):
        await world.accounts.rotate_access_keys(
            "zoe", access_key="ann-key", secret_key="0123456789"
        )
    await world.accounts.rotate_access_keys("zoe")
    assert world.accounts.credential("ann-key") == found
    await world.accounts.delete("zoe")
    assert world.accounts.credential("ann-key") is None
    with world.catalog.read() as reader:
        assert reader.scan(Space.META, b"iam/", b"iam0", 1) == []


async def test_a_key_that_is_off_or_whose_user_is_gone_is_nobodys(world: World) -> None:
    await world.accounts.create("Zoe", id="zoe")
    for key, row in (
        (b"off", AccessKeyRow("zoe", "secret", 1, active=False)),
        (b"gone", AccessKeyRow("zoe", "secret", 1, "nobody")),
    ):
        await world.catalog.commit(Batch((), (Put(Space.ACCESS_KEYS, key, encode(row)),)))
        assert world.accounts.credential(key.decode()) is None


def test_keys_of_the_first_release_are_the_accounts_own_and_on() -> None:
    kept = b"\x01" + msgspec.msgpack.encode(["zoe", "secret", 5])
    row = decode(AccessKeyRow, kept)
    assert (row.account, row.user, row.active) == ("zoe", "", True)
