"""The one decision of who may do what, and the context it is asked with."""

import itertools
import json
from typing import Any

import pytest

from gateway.model import ACCESS_BLOCK, ACCESS_POLICY, Account, Bucket
from gateway.policy.document import Policy, parse_policy
from gateway.policy.evaluation import Asked
from gateway.policy.kept import kept_policy
from gateway.s3.access import Action, PublicAccessBlock, Rules, decide
from gateway.s3.permission import request_context
from tests.conformance.s3_server import ALICE, fresh_store
from tests.protocol.s3_asgi import NOW, as_request

OWNER, OTHER = Account("o", "O"), Account("x", "X")
PRIVATE, PUBLIC = Bucket("b", b"", OWNER, 0), Bucket("b", b"", OWNER, 0, public=True)
CALLERS = (OWNER, OTHER, None)


def policy(effect: str, action: str = "s3:*", principal: Any = "*") -> Policy:
    one = {"Effect": effect, "Principal": principal, "Action": action, "Resource": "*"}
    return parse_policy(json.dumps({"Statement": [one]}).encode())


def may(
    caller: Account | None,
    bucket: Bucket,
    rules: Rules,
    action: Action = Action.READ,
    name: str = "s3:GetObject",
) -> bool:
    asked = Asked(caller.id if caller else "", name, "arn:aws:s3:::b/k", {})
    return decide(caller, action, bucket, rules, lambda: asked).allowed


def test_without_rules_the_owner_does_all_and_a_public_bucket_is_read() -> None:
    for anybody in CALLERS:
        assert decide(anybody, Action.PREFLIGHT, PRIVATE).allowed, "no browser signs"
    for action in set(Action) - {Action.PREFLIGHT}:
        assert decide(OWNER, action, PRIVATE).allowed
        for caller in (OTHER, None):
            assert not decide(caller, action, PRIVATE).allowed
            opened = action in (Action.READ, Action.LIST)
            assert decide(caller, action, PUBLIC).allowed == opened
        assert not decide(None, action, None).allowed
        assert decide(OTHER, action, None).allowed == (action is Action.SERVICE)


def test_a_policy_is_not_asked_where_there_is_none() -> None:
    def never() -> Asked:
        raise AssertionError("a context was made")

    for bucket, caller in itertools.product((PRIVATE, PUBLIC), CALLERS):
        without = decide(caller, Action.READ, bucket)
        assert decide(caller, Action.READ, bucket, Rules(), never) == without


def test_an_explicit_deny_goes_before_ownership_and_before_a_public_acl() -> None:
    for bucket, caller in itertools.product((PRIVATE, PUBLIC), CALLERS):
        assert not may(caller, bucket, Rules(policy("Deny")))


def test_a_policy_allows_whom_it_names() -> None:
    rules = Rules(policy("Allow", "s3:GetObject", {"AWS": "x"}))
    assert may(OTHER, PRIVATE, rules)
    assert not may(None, PRIVATE, rules)
    assert not may(OTHER, PRIVATE, rules, Action.WRITE, "s3:PutObject")
    assert may(OWNER, PRIVATE, rules, Action.WRITE, "s3:PutObject")


@pytest.mark.parametrize("name", ["GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"])
def test_an_owner_is_never_locked_out_of_the_policy_and_nobody_else_gets_it(name: str) -> None:
    name = f"s3:{name}"
    assert may(OWNER, PRIVATE, Rules(policy("Deny")), Action.CONFIGURE, name)
    assert not may(OTHER, PRIVATE, Rules(policy("Allow")), Action.CONFIGURE, name)


def test_nobody_else_may_switch_off_the_public_access_block() -> None:
    name = "s3:PutBucketPublicAccessBlock"
    assert not may(OTHER, PRIVATE, Rules(policy("Allow")), Action.CONFIGURE, name)
    assert not may(OWNER, PRIVATE, Rules(policy("Deny")), Action.CONFIGURE, name)


def test_the_block_ignores_public_acls_and_restricts_public_policies() -> None:
    ignore = Rules(None, PublicAccessBlock(ignore_public_acls=True))
    assert not may(None, PUBLIC, ignore)
    assert may(OWNER, PUBLIC, ignore)
    restrict = PublicAccessBlock(restrict_public_buckets=True)
    for bucket in (PRIVATE, PUBLIC):
        assert not may(OTHER, bucket, Rules(policy("Allow"), restrict))
        assert may(OWNER, bucket, Rules(policy("Allow"), restrict))
    assert may(OTHER, PRIVATE, Rules(policy("Allow", principal={"AWS": "x"}), restrict))


def test_a_stored_policy_that_cannot_be_read_denies_all_but_its_repair() -> None:
    rules = Rules(kept_policy(b'{"Version": "2077-01-01"}'))
    assert not may(OWNER, PUBLIC, rules)
    assert not may(OTHER, PUBLIC, rules)
    assert may(OWNER, PUBLIC, rules, Action.CONFIGURE, "s3:PutBucketPolicy")


def test_every_decision_has_a_reason() -> None:
    asked = Asked("x", "s3:GetObject", "arn:aws:s3:::b/k", {})
    denied = decide(OTHER, Action.READ, PUBLIC, Rules(policy("Deny")), lambda: asked)
    assert (denied.allowed, denied.reason) == (False, "statement 1 denies it")
    assert decide(None, Action.WRITE, PUBLIC).reason == "nothing allows it"


async def test_a_bucket_is_guarded_as_long_as_it_has_a_policy_or_a_block() -> None:
    objects = await fresh_store()
    bucket = await objects.create_bucket(ALICE.account, "bucket")
    steps = [("cors", b"x", False), (ACCESS_POLICY, b"x", True), (ACCESS_BLOCK, b"x", True),
             (ACCESS_POLICY, None, True), (ACCESS_BLOCK, None, False)]  # fmt: skip
    for name, value, guarded in steps:
        await objects.set_setting(bucket, name, value)
        assert objects.bucket("bucket").guarded is guarded
    named = objects.bucket("bucket")
    assert (named.settings, objects.setting(named, "cors")) == (frozenset({"cors"}), b"x")


# ------------------------------------------------------------------ context
def test_the_context_says_what_the_request_is() -> None:
    headers = {"referer": "http://a/", "user-agent": "u", "authorization": "AWS4-HMAC-SHA256 x"}
    request = as_request("GET", "/b?prefix=a%2F&delimiter=/&prefix=z&max-keys=5", headers)
    context = request_context(request, OTHER, NOW)
    assert context["s3:prefix"] == ("a/",), "the first, as the listing takes it"
    assert (context["s3:delimiter"], context["s3:max-keys"]) == (("/",), ("5",))
    assert context["aws:currenttime"] == ("2026-09-21T14:13:20Z",)
    assert (context["aws:referer"], context["aws:useragent"]) == (("http://a/",), ("u",))
    assert context["aws:securetransport"] == ("false",)
    assert context["aws:username"] == ("x",), "not the display name, which others may have too"
    assert context["s3:signatureversion"] == ("AWS4-HMAC-SHA256",)
    assert "aws:sourceip" not in context


def test_the_context_of_nobody_names_nobody() -> None:
    context = request_context(as_request("GET", "/b/k?prefix=a", {}), None, NOW)
    assert context["aws:principaltype"] == ("Anonymous",)
    assert not {"aws:username", "aws:principalarn", "s3:prefix", "s3:authtype"} & context.keys()


def test_tags_that_differ_in_case_share_a_key_and_copy_sources_are_decoded() -> None:
    headers = {"x-amz-tagging": "A=1&a=2&b=3", "x-amz-copy-source": "/src/a%2Fb%20c"}
    context = request_context(as_request("PUT", "/b/k", headers), OTHER, NOW)
    assert context["s3:requestobjecttag/a"] == ("1", "2")
    assert context["s3:requestobjecttagkeys"] == ("A", "a", "b")
    assert context["s3:x-amz-copy-source"] == ("src/a/b c",)
