"""Administration over the in-memory transport and catalog."""

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chain.net.transport import Caller, Handlers, Message, RemoteError
from gateway.admin import AdminService
from gateway.errors import NoSuchKey
from gateway.ipfs.index.tokens import Tokens
from gateway.ipfs.ipns.store import IpnsRecords
from gateway.kms import default_id
from gateway.model import Attributes, Bucket
from gateway.protocol import (
    CreateAccount,
    CreateKmsKey,
    CreateToken,
    DeleteAccount,
    FetchCertificate,
    ListAccounts,
    ListKmsKeys,
    ListTokens,
    NetworkState,
    NodeState,
    ReplicateAgain,
    RevokeToken,
    RotateAccessKeys,
    RotateEncryptionKey,
    SetPublic,
    SetPublishing,
    ShowAccount,
    ShowBucket,
    ShowNetwork,
    ShowPublishing,
    SwitchKmsKey,
)
from tests.unit.object_parts import World, stream

STATE = NetworkState(7, 3, [NodeState("miner", "m1", True, 100, 10)], 0, 0)
Ask = Callable[[Message[Any]], Awaitable[Any]]


def progress(bucket: Bucket, _prefix: str) -> tuple[str, int, int]:
    return ("bafy", 2, 1) if bucket.publishes else ("", 0, 0)


async def network() -> NetworkState:
    return STATE


async def certify(bucket: str, key: str) -> bytes:
    if key == "none":
        raise NoSuchKey
    return f"{bucket}/{key}".encode()


def asking(world: World, *, local: bool = True) -> Ask:
    service = AdminService(
        world.accounts,
        world.objects,
        Tokens(world.catalog, world.clock, random.Random(3).randbytes),
        IpnsRecords(world.catalog, world.clock),
        progress=progress,
        network=network,
        certify=certify,
    )
    table = service.add_to(Handlers()).table

    async def ask(message: Message[Any]) -> Any:
        return await table[type(message)](message, Caller(None, local))

    return ask


async def test_every_message_is_refused_to_callers_from_elsewhere(world: World) -> None:
    ask = asking(world, local=False)
    for message in (ListAccounts(), CreateAccount("Eve"), FetchCertificate("photos", "k")):
        with pytest.raises(RemoteError) as caught:
            await ask(message)
        assert caught.value.code == "AccessDenied"
    assert [account.id for account in world.accounts.accounts()] == ["ann"]


async def test_an_account_is_found_by_id_access_key_and_name(world: World) -> None:
    ask = asking(world)
    made = await ask(CreateAccount("Bob B. $mith", email="bob@example.org"))
    for word in (made.account.id, made.access_key, "Bob B. $mith"):
        found = await ask(ShowAccount(word))
        assert found.id == made.account.id
        assert found.access_keys == [made.access_key]
    names = [account.name for account in (await ask(ListAccounts())).accounts]
    assert names == ["Ann", "Bob B. $mith"]


async def test_a_name_of_two_accounts_asks_for_the_id(world: World) -> None:
    ask = asking(world)
    await ask(CreateAccount("Ann", id="other"))
    with pytest.raises(RemoteError, match="give the id") as caught:
        await ask(DeleteAccount("Ann"))
    assert caught.value.code == "InvalidArgument"
    assert (await ask(ShowAccount("other"))).id == "other"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (CreateAccount(""), "InvalidArgument"),
        (CreateAccount("x" * 129), "InvalidArgument"),
        (CreateAccount("Ann", id="ann"), "EntityAlreadyExists"),
        (CreateAccount("Ann", access_key="only-one"), "InvalidArgument"),
        (ShowAccount("nobody"), "NoSuchEntity"),
        (ShowAccount(""), "NoSuchEntity"),
        (RotateAccessKeys("nobody"), "NoSuchEntity"),
        (RotateEncryptionKey("nobody"), "NoSuchEntity"),
        (DeleteAccount("ann"), "DeleteConflict"),
        (SetPublic("nothing", True), "NoSuchBucket"),
        (ReplicateAgain("nothing", False), "NoSuchBucket"),
        (ReplicateAgain("photos", False), "InvalidArgument"),
        (ShowPublishing("nothing"), "NoSuchBucket"),
        (FetchCertificate("photos", "none"), "NoSuchKey"),
    ],
)
async def test_a_refusal_is_a_code_and_a_sentence(
    world: World, message: Message[Any], code: str
) -> None:
    with pytest.raises(RemoteError) as caught:
        await asking(world)(message)
    assert caught.value.code == code
    assert caught.value.reason


async def test_rotated_keys_replace_the_old_ones(world: World) -> None:
    ask = asking(world)
    before = (await ask(ShowAccount("ann"))).access_keys
    made = await ask(RotateAccessKeys("ann"))
    assert (await ask(ShowAccount("ann"))).access_keys == [made.access_key]
    assert made.access_key not in before
    assert world.accounts.credential(before[0]) is None
    await ask(RotateEncryptionKey("ann"))


async def test_an_account_without_buckets_is_deleted(world: World) -> None:
    ask = asking(world)
    await ask(CreateAccount("Bob", id="bob"))
    await ask(DeleteAccount("bob"))
    assert [account.id for account in (await ask(ListAccounts())).accounts] == ["ann"]


async def test_a_buckets_switches(world: World) -> None:
    ask = asking(world)
    assert (await ask(SetPublic("photos", True))).public
    state = await ask(SetPublishing("photos", True))
    assert (state.publishes, state.cid, state.objects, state.pending) == (True, "bafy", 2, 1)
    settings = await ask(ShowBucket("photos"))
    assert (settings.owner, settings.public, settings.publishes) == ("ann", True, True)
    assert not (await ask(SetPublishing("photos", False))).publishes
    for message in (ShowPublishing("photos", "k"), SetPublishing("photos", True, "k")):
        with pytest.raises(RemoteError) as refused:
            await ask(message)
        assert refused.value.code == "NoSuchKey"
    await world.objects.put(world.bucket, "k", stream(b"x"), Attributes())
    state = await ask(SetPublishing("photos", True, "k"))
    assert (state.publishes, state.cid, state.objects, state.pending) == (True, "", 0, 1)
    assert not (await ask(SetPublishing("photos", False, "k"))).publishes


async def test_the_network_and_certificates_come_from_their_probes(world: World) -> None:
    ask = asking(world)
    assert await ask(ShowNetwork()) == STATE
    found = await ask(FetchCertificate("photos", "k"))
    assert bytes(found.document.buffer) == b"photos/k"


async def test_kms_keys_are_made_listed_and_switched(world: World) -> None:
    ask = asking(world)
    await ask(CreateKmsKey("Ann", "team"))
    await ask(SwitchKmsKey("ann", "team", disabled=True))
    await ask(CreateKmsKey("ann", ""))
    found = (await ask(ListKmsKeys("ann"))).keys
    assert {(key.id, key.disabled) for key in found} == {("team", True), (default_id("ann"), False)}
    await ask(SwitchKmsKey("ann", "team", disabled=False))
    assert not any(key.disabled for key in (await ask(ListKmsKeys("ann"))).keys)
    for message in (SwitchKmsKey("ann", "none", disabled=True), CreateKmsKey("ann", "a b")):
        with pytest.raises(RemoteError) as caught:
            await ask(message)
        assert caught.value.code == "KMS.NotFoundException"


async def test_tokens_are_made_for_buckets_that_publish_listed_and_revoked(world: World) -> None:
    ask = asking(world)
    for bucket, code in (("none", "NoSuchBucket"), ("photos", "InvalidArgument")):
        with pytest.raises(RemoteError) as caught:
            await ask(CreateToken(bucket))
        assert caught.value.code == code
    await ask(SetPublishing("photos", True))
    made = [await ask(CreateToken(bucket)) for bucket in ("photos", "")]
    assert {token.bucket for token in (await ask(ListTokens())).tokens} == {"photos", ""}
    assert made[0].text != made[1].text
    await ask(RevokeToken(made[0].token.id))
    assert [token.id for token in (await ask(ListTokens())).tokens] == [made[1].token.id]
    with pytest.raises(RemoteError) as caught:
        await ask(RevokeToken(made[0].token.id))
    assert caught.value.code == "NoSuchEntity"
