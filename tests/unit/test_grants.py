"""Access control lists as values, and the decision that weighs them, against a simple model."""

import json
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.errors import StoreError
from gateway.model import Account, Bucket
from gateway.policy.document import Policy, parse_policy
from gateway.policy.evaluation import Asked
from gateway.s3.access import Action, PublicAccessBlock, Rules, decide
from gateway.s3.acls import Named, acl_document, parse_acl, parse_grant_headers
from gateway.s3.grants import (
    Acl,
    Grant,
    Group,
    Ownership,
    Right,
    canned,
    grants_right,
    in_order,
    pack,
    private,
    unpack,
    uri_of,
)

OWNER, OTHER, THIRD = Account("o", "O"), Account("x", "X"), Account("y", "Y<&>")
ACCOUNTS = {one.id: one for one in (OWNER, OTHER, THIRD)}
BUCKETS = {public: Bucket("b", b"", OWNER, 0, public=public) for public in (False, True)}
PUBLIC = (Group.ALL, Group.AUTHENTICATED)

rights = st.sampled_from(Right)
grants = st.one_of(
    st.builds(lambda right, who: Grant(right, who), rights, st.sampled_from(sorted(ACCOUNTS))),
    st.builds(lambda right, group: Grant(right, group=group), rights, st.sampled_from(Group)),
)
lists = st.builds(
    lambda owner, some: Acl(owner, tuple(some)),
    st.sampled_from(sorted(ACCOUNTS)),
    st.lists(grants, max_size=4),
)


def policy(effect: str) -> Policy | None:
    if not effect:
        return None
    one = {"Effect": effect, "Principal": "*", "Action": "s3:*", "Resource": "*"}
    return parse_policy(json.dumps({"Statement": [one]}).encode())


class Case(NamedTuple):
    """All that a decision depends on."""

    caller: Account | None
    action: Action
    public: bool
    effect: str  # of the policy: Allow, Deny or none
    ignore: bool
    restrict: bool
    bucket_list: Acl | None
    ownership: Ownership
    found: Acl | None
    requester_pays: bool
    pays: bool


flags = st.booleans()
actions = st.sampled_from([a for a in Action if a not in (Action.SERVICE, Action.PREFLIGHT)])
cases = st.builds(
    Case, st.sampled_from([OWNER, OTHER, None]), actions, flags,
    st.sampled_from(["", "Allow", "Deny"]), flags, flags,
    st.none() | lists.map(lambda acl: Acl(OWNER.id, acl.grants)), st.sampled_from(Ownership),
    st.none() | lists, flags, flags,
)  # fmt: skip


def decided(case: Case) -> bool:
    block = PublicAccessBlock(ignore_public_acls=case.ignore, restrict_public_buckets=case.restrict)
    rules = Rules(policy(case.effect), block, case.bucket_list, case.ownership, case.requester_pays)
    asked = Asked(case.caller.id if case.caller else "", "s3:X", "arn:aws:s3:::b/k", {})
    bucket = BUCKETS[case.public]
    return decide(
        case.caller, case.action, bucket, rules, lambda: asked, found=case.found, pays=case.pays
    ).allowed


# The right that is enough for an action, by the bucket's list or by the object's.
BY_BUCKET = {Action.LIST: "READ", Action.WRITE: "WRITE", Action.READ_ACL: "READ_ACP",
             Action.WRITE_ACL: "WRITE_ACP"}  # fmt: skip
BY_OBJECT = {Action.READ: "READ", Action.READ_OBJECT_ACL: "READ_ACP",
             Action.WRITE_OBJECT_ACL: "WRITE_ACP"}  # fmt: skip


def granted(case: Case) -> bool:
    """Whether a list names the caller, word for word."""
    name = BY_BUCKET.get(case.action) or BY_OBJECT.get(case.action)
    acl = case.found if case.action in BY_OBJECT else case.bucket_list
    acl = acl or Acl(OWNER.id, (Grant(Right.FULL_CONTROL, OWNER.id),))
    if name is None or case.ownership is Ownership.ENFORCED:
        return False
    who = "" if case.caller is None else case.caller.id
    if who and who == acl.owner and name.endswith("_ACP"):
        return True
    for grant in acl.grants:
        named = {who} if who else set()
        if not case.ignore:
            named |= {"AllUsers"} | ({"AuthenticatedUsers"} if who else set())
        if grant.right.name in (name, "FULL_CONTROL") and (grant.account or grant.group) in named:
            return True
    return False


def model(case: Case) -> bool:  # noqa: PLR0911 - a line for each rule
    """The decision as one would tell it."""
    owner = case.caller == OWNER
    others_object = case.action in BY_OBJECT and case.found and case.found.owner != OWNER.id
    if case.ownership is Ownership.ENFORCED:
        others_object = False
    if case.effect == "Deny":
        return False
    if owner and not others_object:
        return True
    if not owner and case.requester_pays and not (case.caller and case.pays):
        return False
    if not owner and case.restrict and case.effect == "Allow":
        return False
    if case.effect == "Allow" and not others_object:
        return True
    if case.public and not case.ignore and case.action in (Action.LIST, Action.READ):
        return True
    if case.action is Action.UPLOAD:
        return bool(case.caller and case.found and case.found.owner == case.caller.id)
    return granted(case)


@settings(max_examples=500)
@given(cases)
def test_the_decision_is_that_of_a_simple_model(case: Case) -> None:
    assert decided(case) == model(case)


@settings(max_examples=200)
@given(cases, grants)
def test_a_grant_more_never_takes_anything_away(case: Case, more: Grant) -> None:
    assume(case.found is not None)
    assert case.found is not None
    wider = Acl(case.found.owner, (*case.found.grants, more))
    assert decided(case) <= decided(case._replace(found=wider))


@settings(max_examples=200)
@given(cases)
def test_switches_only_take_away(case: Case) -> None:
    off = case._replace(ignore=False, restrict=False, requester_pays=False)
    for on in (off._replace(ignore=True), off._replace(restrict=True), case):
        assert decided(on) <= decided(off)


# ------------------------------------------------------------------ values
@given(lists)
def test_a_list_comes_back_from_what_is_stored(acl: Acl) -> None:
    assert unpack(pack(acl, OWNER.id), OWNER.id) == acl


def test_what_is_private_and_the_bucket_owners_is_not_stored() -> None:
    assert pack(private("o"), "o") == b""
    assert unpack(b"", "o") == private("o")
    assert pack(private("x"), "o") != b""
    assert pack(Acl("o", ()), "o") != b"", "no grant at all is something else"


def test_a_right_is_worth_its_bits() -> None:
    for held in Right:
        acl = Acl("o", (Grant(held, "x"),))
        worth = {right for right in Right if grants_right(acl, "x", right)}
        assert worth == ({*Right} if held is Right.FULL_CONTROL else {held})


def test_a_canned_list_of_the_bucket_owner_himself_names_him_once() -> None:
    for name in ("bucket-owner-read", "bucket-owner-full-control", "private"):
        assert canned(name, "o", "o", of_bucket=False) == (Grant(Right.FULL_CONTROL, "o"),)
    for of_bucket in (False, True):
        with pytest.raises(StoreError):
            canned("log-delivery-write" if not of_bucket else "", "o", "o", of_bucket=of_bucket)


# ------------------------------------------------------------------ words
@given(lists)
def test_a_document_that_was_shown_can_be_put_again(acl: Acl) -> None:
    owner, named = parse_acl(acl_document(acl, ACCOUNTS))
    wanted = [
        Named(g.right, "uri" if g.group else "id", uri_of(g.group) if g.group else g.account)
        for g in in_order(acl.grants)
    ]
    assert (owner, named) == (acl.owner, wanted)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("id=a", [("id", "a")]),
        ('id="a", id="b,c"', [("id", "a"), ("id", "b,c")]),
        (' ID = "a" ,emailAddress=b@c,', [("id", "a"), ("emailaddress", "b@c")]),
        ('uri="http://x/y?a=b"', [("uri", "http://x/y?a=b")]),
        ('id=""', [("id", "")]),
        ("", []),
    ],
)
def test_grantees_are_read_from_a_header(text: str, named: list[tuple[str, str]]) -> None:
    found = parse_grant_headers({"x-amz-grant-read-acp": text})
    assert [(one.right, one.kind, one.value) for one in found] == [
        (Right.READ_ACP, *one) for one in named
    ]


PIECES = st.lists(
    st.sampled_from(["id", "=", '"', ",", " ", "uri", "a", "é", "\t", "emailAddress"])
)


@given(PIECES.map("".join) | st.text(max_size=40))
def test_a_grant_header_is_read_or_refused(text: str) -> None:
    with suppress(StoreError):
        for one in parse_grant_headers({"x-amz-grant-read": text}):
            assert one.kind in ("id", "uri", "emailaddress")


def test_a_long_grant_header_is_read_in_time_with_its_length() -> None:
    header: dict[str, Any] = {"x-amz-grant-read": 'id="' + " " * 60_000}
    with pytest.raises(StoreError):
        parse_grant_headers(header)
    assert len(parse_grant_headers({"x-amz-grant-read": "id=a," * 10_000})) == 10_000
