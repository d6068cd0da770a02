"""Changes of an account's entities that meet each other, and identities as a key finds them."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.catalog.interface import Batch
from gateway.catalog.memory import MemoryCatalog
from gateway.errors import StoreError
from gateway.iam import groups, managed_policies, users
from gateway.iam.call import Call, Result
from gateway.iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity
from gateway.iam.inline_policies import MemberPolicies
from gateway.iam.params import Params
from gateway.iam.rows import GroupRow, PolicyRow, UserRow
from gateway.iam.store import IamStore
from gateway.model import Account, Credential
from tests.unit.object_parts import World

ROOT = Credential("k", "s", Account("zoe", "Zoe"))
POLICY = json.dumps({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
OF_USERS = MemberPolicies(UserRow, "User").operations()


class Meeting(MemoryCatalog):
    """Commits wait, so that what begins together has seen the same rows."""

    async def commit(self, batch: Batch) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().commit(batch)


class Iam:
    """Operations of one account, without HTTP."""

    def __init__(self) -> None:
        self.world = World()
        self.world.catalog = self.world.accounts._catalog = Meeting()
        self.store = IamStore(self.world.catalog)
        self.entropy = random.Random(4).randbytes

    async def do(self, run: Callable[[Call], Result], **form: str) -> Any:
        def work(view: Any) -> Result:
            return run(Call(view, Params(form), ROOT, 1, self.entropy))

        return await self.store.run("zoe", work)

    async def together(self, *calls: tuple[Callable[[Call], Result], dict[str, str]]) -> list[str]:
        """What each says: "" or an error's class."""
        said = [""] * len(calls)

        async def one(at: int, run: Callable[[Call], Result], form: dict[str, str]) -> None:
            try:
                await self.do(run, **form)
            except StoreError as error:
                said[at] = type(error).__name__

        async with asyncio.TaskGroup() as group:
            for at, (run, form) in enumerate(calls):
                group.create_task(one(at, run, form))
        return said


@pytest.fixture
async def iam() -> AsyncIterator[Iam]:
    iam = Iam()
    await iam.world.accounts.create("Zoe", id="zoe")
    yield iam
    iam.world.objects.close()


async def test_of_two_that_make_one_name_one_does(iam: Iam) -> None:
    calls = [(users.create_user, {"UserName": name}) for name in ("ann", "ANN", "Ann")]
    said = await iam.together(*calls)
    assert sorted(said) == ["", EntityAlreadyExists.__name__, EntityAlreadyExists.__name__]


async def test_a_user_never_has_three_keys(iam: Iam) -> None:
    await iam.do(users.create_user, UserName="ann")
    said = await iam.together(*[(users.create_access_key, {"UserName": "ann"})] * 4)
    assert sorted(said) == ["", "", LimitExceeded.__name__, LimitExceeded.__name__]


async def test_who_joins_a_group_and_goes_leaves_nothing_behind(iam: Iam) -> None:
    for seed in range(12):
        chance = random.Random(seed)
        await iam.do(users.create_user, UserName="ann")
        await iam.do(groups.create_group, GroupName="g")
        both = {"UserName": "ann", "GroupName": "g"}
        calls = [(groups.add_user_to_group, both), (users.delete_user, {"UserName": "ann"}),
                 (groups.delete_group, {"GroupName": "g"}),
                 (users.update_user, {"UserName": "ann", "NewUserName": "bea"})]  # fmt: skip
        chance.shuffle(calls)
        await iam.together(*calls)
        with iam.store.view("zoe") as view:
            members = {row.name.lower(): row.members for row in view.all(GroupRow)}
            joined = {row.name.lower(): row.groups for row in view.all(UserRow)}
        for user, names in joined.items():
            assert all(user in members[name] for name in names), seed
        for group, names in members.items():
            assert all(group in joined[name] for name in names), seed
        for user, names in joined.items():
            for name in names:
                await iam.do(groups.remove_user_from_group, UserName=user, GroupName=name)
            await iam.do(users.delete_user, UserName=user)
        for group in members:
            await iam.do(groups.delete_group, GroupName=group)


async def test_a_policy_is_not_deleted_while_it_is_attached(iam: Iam) -> None:
    await iam.do(users.create_user, UserName="ann")
    arn = "arn:aws:iam::zoe:policy/P"
    await iam.do(managed_policies.create_policy, PolicyName="P", PolicyDocument=POLICY)
    attach = (OF_USERS["AttachUserPolicy"], {"UserName": "ann", "PolicyArn": arn})
    delete = (managed_policies.delete_policy, {"PolicyArn": arn})
    said = await iam.together(attach, delete)
    assert said in (["", DeleteConflict.__name__], [NoSuchEntity.__name__, ""])
    with iam.store.view("zoe") as view:
        attached = view.get(UserRow, "ann").attached
        counts = [row.attachments for row in view.all(PolicyRow)]
    assert (attached, counts) in (((arn,), [1]), ((), []))


async def test_another_account_sees_nothing_of_it(iam: Iam) -> None:
    await iam.do(users.create_user, UserName="ann")
    for other in ("zo", "zoe2", "ann", ""):
        with iam.store.view(other) as view:
            assert list(view.all(UserRow)) == []
            assert view.find(UserRow, "ann") is None


async def test_nothing_is_made_in_an_account_that_is_gone(iam: Iam) -> None:
    await iam.world.accounts.delete("zoe")
    with pytest.raises(NoSuchEntity):
        await iam.do(users.create_user, UserName="ann")


async def test_an_identity_has_its_groups_policies_and_a_lost_boundary_lets_nothing_through(
    iam: Iam,
) -> None:
    await iam.do(managed_policies.create_policy, PolicyName="B", PolicyDocument=POLICY)
    boundary = "arn:aws:iam::zoe:policy/B"
    await iam.do(users.create_user, UserName="ann", PermissionsBoundary=boundary)
    key = (await iam.do(users.create_access_key, UserName="ann"))["AccessKey"]["AccessKeyId"]

    def read() -> tuple[int, tuple[int, ...]]:
        found = iam.world.accounts.credential(key)
        assert found is not None
        assert found.identity is not None
        return len(found.identity.policies), tuple(len(one) for one in found.identity.limits)

    assert read() == (0, (1,))
    await iam.do(groups.create_group, GroupName="g")
    await iam.do(groups.add_user_to_group, UserName="ann", GroupName="g")
    put = MemberPolicies(GroupRow, "Group").operations()["PutGroupPolicy"]
    await iam.do(put, GroupName="g", PolicyName="p", PolicyDocument=POLICY)
    assert read() == (1, (1,))
    with pytest.raises(DeleteConflict):
        await iam.do(managed_policies.delete_policy, PolicyArn=boundary)

    def force(call: Call) -> Result:
        call.view.delete(call.view.get(PolicyRow, "B"))
        return None

    await iam.do(force)
    assert read() == (1, (0,))
