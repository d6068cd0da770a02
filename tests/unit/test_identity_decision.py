"""The decision for users and sessions, against a second one written from the rules."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.iam.identity import Identity
from gateway.model import Account, Bucket
from gateway.policy.document import Kind, MalformedPolicy, Policy, parse_policy
from gateway.policy.evaluation import Asked
from gateway.s3.access import Action, PublicAccessBlock, Rules, decide
from gateway.s3.grants import Acl, Grant, Right

OWN, OTHER = Account("own", "Own"), Account("other", "Other")
USER, ROLE = "arn:aws:iam::own:user/u", "arn:aws:iam::own:role/r"
SESSION = "arn:aws:sts::own:assumed-role/r/s"
# (effect, action); a principal is added for a bucket's policy
ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:*")
Said = tuple[str, str]


def identity_policy(*said: Said) -> Policy:
    statements = [{"Effect": e, "Action": a, "Resource": "*"} for e, a in said]
    return parse_policy(json.dumps({"Statement": statements}).encode(), Kind.IDENTITY)


def bucket_policy(*said: tuple[str, str, str]) -> Policy:
    statements = [
        {"Effect": e, "Action": a, "Resource": "*", "Principal": "*" if p == "*" else {"AWS": p}}
        for e, a, p in said
    ]
    return parse_policy(json.dumps({"Statement": statements}).encode())


def user(policies: list[Policy], limits: list[list[Policy]] | None = None) -> Identity:
    return Identity("User", USER, "AIDA1", "u", policies=tuple(policies),
                    limits=tuple(tuple(one) for one in limits or []))  # fmt: skip


def session(policies: list[Policy], limits: list[list[Policy]] | None = None) -> Identity:
    return Identity("AssumedRole", SESSION, "AROA1:s", role=ROLE, policies=tuple(policies),
                    limits=tuple(tuple(one) for one in limits or []))  # fmt: skip


def may(who: Identity, bucket: Bucket, rules: Rules | None, name: str = "s3:GetObject") -> bool:
    asked = Asked("own", name, "arn:aws:s3:::b/k", {}, who.arn, who.role)
    action = Action.READ if name == "s3:GetObject" else Action.WRITE
    return decide(OWN, action, bucket, rules, lambda: asked, who).allowed


said = st.tuples(st.sampled_from(["Allow", "Deny"]), st.sampled_from(ACTIONS))
# A policy has a statement; more Allows than Denies, or nothing would ever be allowed.
allows = st.tuples(st.just("Allow"), st.sampled_from(ACTIONS))
policies = st.lists(st.one_of(allows, allows, said), min_size=1, max_size=2)
named = st.tuples(
    st.sampled_from(["Allow", "Allow", "Allow", "Deny"]),
    st.sampled_from(ACTIONS),
    st.sampled_from(["own", USER, ROLE, SESSION, "*", "third"]),
)


def says(statements: Any, action: str) -> set[str]:
    return {one[0] for one in statements if one[1] in (action, "s3:*")}


@settings(max_examples=200, deadline=None)
@given(
    own=st.lists(policies, max_size=2),
    limits=st.lists(policies, max_size=2),
    bucket=st.lists(named, max_size=3),
    is_session=st.booleans(),
    is_owner=st.booleans(),
    public=st.booleans(),
    action=st.sampled_from(ACTIONS[:2]),
)
def test_the_decision_is_what_the_rules_say(
    own: list[list[Said]],
    limits: list[list[Said]],
    bucket: list[tuple[str, str, str]],
    is_session: bool,
    is_owner: bool,
    public: bool,
    action: str,
) -> None:
    make = session if is_session else user
    who = make([identity_policy(*one) for one in own], [[identity_policy(*one)] for one in limits])
    rules = Rules(bucket_policy(*bucket)) if bucket else None
    place = Bucket("b", b"", OWN if is_owner else OTHER, 0, public=public)

    names = {"own", "*"} | ({ROLE, SESSION} if is_session else {USER})
    about = [one for one in bucket if one[2] in names and one[1] in (action, "s3:*")]
    granted = {one[2] for one in about if one[0] == "Allow"}
    mine = {effect for one in own for effect in says(one, action)}
    within = all("Allow" in says(one, action) for one in limits)
    denied = (
        any(one[0] == "Deny" for one in about)
        or "Deny" in mine
        or any("Deny" in says(one, action) for one in limits)
    )
    open_to_all = public and action == "s3:GetObject"
    if denied:
        expected = False
    elif is_owner:
        alone = SESSION if is_session else USER
        expected = (
            alone in granted
            or (within and bool(granted & {ROLE, "*"}))
            or (within and "Allow" in mine)
            or (within and open_to_all)
        )
    else:
        expected = within and "Allow" in mine and (bool(granted) or open_to_all)
    assert may(who, place, rules, action) is expected


def test_a_user_never_gets_what_only_the_owner_of_the_bucket_may_do() -> None:
    rules = Rules(bucket_policy(("Allow", "s3:*", USER)))
    everything = user([identity_policy(("Allow", "s3:*"))])
    name = "s3:PutBucketPolicy"
    assert not may(everything, Bucket("b", b"", OTHER, 0), rules, name)
    assert may(everything, Bucket("b", b"", OWN, 0), rules, name)
    denied = Rules(bucket_policy(("Deny", "s3:*", "*")))
    assert not may(everything, Bucket("b", b"", OWN, 0), denied, name), "only the account itself"


def test_a_public_policy_that_is_restricted_holds_for_the_account_and_its_users() -> None:
    rules = Rules(bucket_policy(("Allow", "s3:*", "*")),
                  PublicAccessBlock(restrict_public_buckets=True))  # fmt: skip
    nothing, everything = user([]), user([identity_policy(("Allow", "s3:*"))])
    assert may(nothing, Bucket("b", b"", OWN, 0), rules)
    assert not may(everything, Bucket("b", b"", OTHER, 0), rules)


@pytest.mark.parametrize(("listed", "spared"), [(USER, True), ("own", False), (ROLE, False)])
def test_who_is_not_meant_is_listed_by_its_own_name(listed: str, spared: bool) -> None:
    document = {"Statement": [
        {"Effect": "Deny", "NotPrincipal": {"AWS": listed}, "Action": "s3:*", "Resource": "*"}
    ]}  # fmt: skip
    rules = Rules(parse_policy(json.dumps(document).encode()))
    everything = user([identity_policy(("Allow", "s3:*"))])
    assert may(everything, Bucket("b", b"", OWN, 0), rules) is spared


@pytest.mark.parametrize("owner", [OWN, OTHER], ids=["own bucket", "another's"])
def test_a_list_grants_to_an_account_whose_user_needs_its_own_policy_too(owner: Account) -> None:
    """An object of a third account: neither the bucket's account nor its users own it."""
    bucket = Bucket("b", b"", owner, 0)
    everything, nothing = user([identity_policy(("Allow", "s3:*"))]), user([])
    own, all_ = Grant(Right.READ, "own"), Grant(Right.READ, group="AllUsers")
    for grants, may_with, may_without in (((), False, False), ((own,), True, False),
                                          ((all_,), True, False)):  # fmt: skip
        for who, allowed in ((everything, may_with), (nothing, may_without)):
            asked = partial(Asked, "own", "s3:GetObject", "arn:aws:s3:::b/k", {}, who.arn)
            found = Acl("third", grants)
            decision = decide(OWN, Action.READ, bucket, None, asked, who, found=found)
            assert decision.allowed is allowed, (grants, who)


def test_what_an_account_was_granted_in_its_own_bucket_is_not_its_users() -> None:
    bucket, nothing = Bucket("b", b"", OWN, 0), user([])
    for grant, allowed in ((Grant(Right.FULL_CONTROL, "own"), False),
                           (Grant(Right.READ, group="AllUsers"), True)):  # fmt: skip
        asked = partial(Asked, "own", "s3:GetObject", "arn:aws:s3:::b/k", {}, nothing.arn)
        found = Acl("own", (grant,))
        decision = decide(OWN, Action.READ, bucket, None, asked, nothing, found=found)
        assert decision.allowed is allowed


def test_a_service_is_asked_of_policies_too() -> None:
    asked = Asked("own", "s3:ListAllMyBuckets", "arn:aws:s3:::*", {}, USER)
    for policy, allowed in ((("Allow", "s3:ListAllMyBuckets"), True), (("Deny", "s3:*"), False),
                            (("Allow", "s3:GetObject"), False)):  # fmt: skip
        who = user([identity_policy(policy)])
        assert decide(OWN, Action.SERVICE, None, None, lambda: asked, who).allowed is allowed


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"Principal": "*"}, Kind.IDENTITY), ({"NotPrincipal": "*"}, Kind.IDENTITY),
        ({"Resource": "*", "Principal": "*"}, Kind.TRUST),
        ({"Principal": {"CanonicalUser": "x"}, "Resource": None}, Kind.TRUST),
        ({"Resource": "arn:aws:s3"}, Kind.IDENTITY), ({"Action": "a b:c"}, Kind.IDENTITY),
        ({"Action": "s3:GetObject", "Principal": "*", "Resource": None}, Kind.TRUST),
        ({"Condition": {"Bool": {"aws:never": "true"}}}, Kind.IDENTITY),
        ({"Principal": {"Federated": "arn:aws:iam::x:user/u"}, "Resource": None}, Kind.TRUST),
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_of_policy_has_its_own_grammar(change: dict[str, Any], kind: Kind) -> None:
    one = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"} | change
    one = {name: value for name, value in one.items() if value is not None}
    with pytest.raises(MalformedPolicy):
        parse_policy(json.dumps({"Statement": one}).encode(), kind)
