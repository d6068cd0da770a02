"""Policies: what is a document, what an operator says, and how statements decide together."""

import json
import time
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.actions import action_of, applies_to, concerns, resource_of
from gateway.policy.document import (
    DOCUMENT_MAX,
    STRING_MAX,
    Kind,
    MalformedPolicy,
    Policy,
    PolicyTooLarge,
    parse_policy,
)
from gateway.policy.evaluation import Asked, Effect, evaluate, is_public
from gateway.policy.patterns import fields, matches

STATEMENT = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
             "Resource": "arn:aws:s3:::b/*"}  # fmt: skip


def made(*statements: dict[str, Any], version: str = "2012-10-17") -> Policy:
    document = {"Version": version, "Statement": [STATEMENT | one for one in statements]}
    return parse_policy(json.dumps(document).encode())


def asked(
    principal: str = "ann", action: str = "s3:GetObject", key: str = "k", **context: str
) -> Asked:
    keys = {name.replace("__", ":", 1).replace("_", "-"): (v,) for name, v in context.items()}
    return Asked(principal, action, resource_of("b", key), keys)


def effect(policy: Policy, request: Asked) -> Effect:
    return evaluate(policy, request).effect


def conditioned(operator: str, key: str, wanted: Any, *given: str) -> bool:
    policy = made({"Condition": {operator: {key: wanted}}})
    request = Asked("ann", "s3:GetObject", resource_of("b", "k"), {key.lower(): given})
    return effect(policy, request) is Effect.ALLOW


# ------------------------------------------------------------------ documents
@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "allow"}, {"Effect": None}, {"Action": []}, {"Action": "GetObject"},
        {"Action": "ec2:Run"}, {"Action": ["s3:GetObject", 3]}, {"Resource": "b/*"},
        {"Resource": ["arn:aws:sqs:::b"]}, {"Principal": {"AWS": []}}, {"Principal": {}},
        {"Principal": "ann"}, {"Principal": {"Service": "s3"}}, {"Principal": {"AWS": "a*"}},
        {"Principal": {"AWS": "arn:aws:iam::1:group/x"}}, {"Principal": {"CanonicalUser": "*"}},
        {"NotPrincipal": "*"}, {"NotAction": "s3:*"}, {"Extra": 1}, {"Sid": 3},
        {"Condition": []}, {"Condition": {"StringIs": {"s3:prefix": "x"}}},
        {"Condition": {"StringEquals": {"s3:nokey": "x"}}},
        {"Condition": {"StringEquals": {"s3:prefix": []}}},
        {"Condition": {"StringEquals": {"s3:prefix": {"x": 1}}}},
        {"Condition": {"IpAddress": {"aws:SourceIp": "300.1.1.1"}}},
        {"Condition": {"NumericLessThan": {"s3:max-keys": "ten"}}},
        {"Condition": {"DateLessThan": {"aws:CurrentTime": "tomorrow"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": "maybe"}}},
        {"Condition": {"NullIfExists": {"s3:prefix": "true"}}},
        {"Condition": {"ForSomeValues:StringLike": {"s3:prefix": "x"}}},
    ],
    ids=str,
)  # fmt: skip
def test_what_breaks_the_grammar_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedPolicy):
        made(change)


@pytest.mark.parametrize(
    "text",
    ["", "[]", " {}", "{", "{}", '{"Statement":[]}', '{"Statement":3}', '{"Statement":[3]}',
     '{"Version":"2013","Statement":[]}', '{"a":NaN}', '{"Statement":1,"Statement":2}',
     '{"a":' + "[" * 9000, '{"a":' + "9" * 9000 + "}", '{"a":"\xff'],
)  # fmt: skip
def test_what_is_no_policy_document_is_refused(text: str) -> None:
    with pytest.raises(MalformedPolicy):
        parse_policy(text.encode("latin-1"))


def test_allow_with_not_principal_is_refused() -> None:
    given = {name: value for name, value in STATEMENT.items() if name != "Principal"}
    for word, good in (("Allow", False), ("Deny", True)):
        one = given | {"Effect": word, "NotPrincipal": {"AWS": "ann"}}
        data = json.dumps({"Statement": one}).encode()
        if good:
            assert parse_policy(data).statements[0].not_principals
        else:
            with pytest.raises(MalformedPolicy):
                parse_policy(data)


def test_a_document_of_a_megabyte_is_too_large_before_it_is_read() -> None:
    for size in (DOCUMENT_MAX + 1, 1 << 20):
        with pytest.raises(PolicyTooLarge):
            parse_policy(b"{" * size)


def test_statement_ids_are_unique() -> None:
    with pytest.raises(MalformedPolicy):
        made({"Sid": "a"}, {"Sid": "a"})


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_policy_or_malformed(data: bytes) -> None:
    for given_bytes in (data, b"{" + data, b'{"Statement":' + data + b"}"):
        for kind in Kind:
            try:
                parse_policy(given_bytes, kind)
            except MalformedPolicy:
                continue


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.sampled_from(["*", "s3:*", "Allow", "Deny", "arn:aws:s3:::b", "ann", "true", "${", ""]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["AWS", "StringLike", "Null", "s3:prefix"]), inner),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*STATEMENT, "NotAction", "Condition", "Sid"]), JSON))
def test_any_json_in_the_place_of_a_field_is_a_policy_or_malformed(fields: dict[str, Any]) -> None:
    try:
        policy = made(fields)
    except MalformedPolicy:
        return
    evaluate(policy, asked())
    is_public(policy)


# ------------------------------------------------------------------ patterns
@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [("a*c", "abbc", True), ("a*c", "abcd", False), ("a?c", "abc", True), ("a?c", "ac", False),
     ("*", "", True), ("a*", "a\nb", True), ("a*b*c", "aXbXbc", True), ("*aab", "aaab", True),
     ("a.c", "abc", False), ("A", "a", False), ("", "", True), ("", "a", False),
     ("**", "x", True), ("*?", "", False)],
)  # fmt: skip
def test_wildcards(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text, {}, variables=True) is fits


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_agree_with_a_plain_definition(pattern: str, text: str) -> None:
    def plain(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return plain(p[1:], t) or (bool(t) and plain(p, t[1:]))
        return bool(t) and p[0] in ("?", t[0]) and plain(p[1:], t[1:])

    assert matches(pattern, text, {}, variables=False) is plain(pattern, text)


def test_variables_are_taken_as_they_are_and_never_as_wildcards() -> None:
    for name, key, fits in (
        ("ann", "ann/x", True), ("*", "bob/x", False), ("*", "*/x", True), ("?", "a/x", False),
    ):  # fmt: skip
        context = {"aws:username": (name,)}
        assert matches("${aws:UserName}/*", key, context, variables=True) is fits
    assert not matches("${aws:username}/*", "ann/x", {}, variables=True)
    assert matches("${aws:username, 'all'}/*", "all/x", {}, variables=True)
    assert matches("${*}${?}${$}", "*?$", {}, variables=True)
    assert not matches("${*}", "a", {}, variables=True)
    assert matches("${aws:username}", "${aws:username}", {}, variables=False)


HOSTILE = ["*a", "${", "${ ", "${'", "?*", " ", "*?a"]


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_patterns_take_no_time(word: str) -> None:
    pattern = "${" + (word * STRING_MAX)[: STRING_MAX - 3] + "b"
    started = time.thread_time()
    for one in (pattern, pattern[2:]):
        matches(one, "a" * 1024, {}, variables=True)
        fields(one + ":" * 99)
    assert time.thread_time() - started < 0.5


def test_longer_strings_are_refused() -> None:
    for field in ("Action", "Resource", "Sid"):
        with pytest.raises(MalformedPolicy):
            made({field: str(STATEMENT.get(field, "")) + "x" * (STRING_MAX + 1)})


# ------------------------------------------------------------------ operators
@pytest.mark.parametrize(
    ("operator", "key", "wanted", "given_value", "fits"),
    [
        ("StringEquals", "s3:prefix", "a*", "ab", False),
        ("StringEquals", "s3:prefix", ["x", "ab"], "ab", True),
        ("StringNotEquals", "s3:prefix", ["x", "ab"], "ab", False),
        ("StringNotEquals", "s3:prefix", ["x", "ab"], "c", True),
        ("StringEqualsIgnoreCase", "s3:prefix", "AB", "ab", True),
        ("StringNotEqualsIgnoreCase", "s3:prefix", "AB", "ab", False),
        ("StringLike", "aws:Referer", "http://a/*", "http://a/b", True),
        ("StringNotLike", "aws:Referer", "http://a/*", "http://a/b", False),
        ("NumericLessThanEquals", "s3:max-keys", 10, "10", True),
        ("NumericLessThan", "s3:max-keys", "10", "10", False),
        ("NumericGreaterThan", "s3:max-keys", 9, "10", True),
        ("NumericGreaterThanEquals", "s3:max-keys", 11, "10", False),
        ("NumericEquals", "s3:max-keys", "10.0", "10", True),
        ("NumericNotEquals", "s3:max-keys", "10", "10", False),
        ("NumericEquals", "s3:max-keys", "10", "ten", False),
        ("DateLessThan", "aws:CurrentTime", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", True),
        ("DateGreaterThan", "aws:CurrentTime", "2026-01-02", "2026-01-01T00:00:00Z", False),
        ("DateEquals", "aws:CurrentTime", "0", "1970-01-01T00:00:00Z", True),
        ("Bool", "aws:SecureTransport", False, "false", True),
        ("Bool", "aws:SecureTransport", "true", "false", False),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("IpAddress", "aws:SourceIp", "2001:db8::/32", "2001:db8::1", True),
        ("IpAddress", "aws:SourceIp", "10.0.0.0/8", "not an address", False),
        ("NotIpAddress", "aws:SourceIp", ["10.0.0.0/8", "192.168.0.0/16"], "10.1.2.3", False),
        ("NotIpAddress", "aws:SourceIp", "10.0.0.0/8", "11.1.2.3", True),
        ("ArnLike", "aws:PrincipalArn", "arn:aws:iam::a*:root", "arn:aws:iam::ann:root", True),
        ("ArnEquals", "aws:SourceArn", "arn:aws:s3:*:1", "arn:aws:s3:::x:1", False),
        ("ArnNotLike", "aws:PrincipalArn", "arn:aws:iam::a*:root", "arn:aws:iam::ann:root", False),
        ("BinaryEquals", "s3:prefix", "YWI=", "YWI=", True),
        ("Null", "s3:prefix", "true", "x", False),
        ("Null", "s3:prefix", False, "x", True),
    ],
)  # fmt: skip
def test_each_operator(operator: str, key: str, wanted: Any, given_value: str, fits: bool) -> None:
    assert conditioned(operator, key, wanted, given_value) is fits
    assert conditioned(operator + ("IfExists" if operator != "Null" else ""), key, wanted,
                       given_value) is fits  # fmt: skip


@pytest.mark.parametrize(
    ("operator", "fits"),
    [("StringEquals", False), ("StringNotEquals", True), ("StringEqualsIfExists", True),
     ("ForAllValues:StringEquals", True), ("ForAnyValue:StringEquals", False),
     ("ForAnyValue:StringNotEquals", False)],
)  # fmt: skip
def test_a_key_that_the_request_has_not(operator: str, fits: bool) -> None:
    assert conditioned(operator, "s3:prefix", "x") is fits


def test_null_asks_whether_a_key_is_there() -> None:
    assert conditioned("Null", "s3:prefix", "true")
    assert not conditioned("Null", "s3:prefix", "false")


def test_quantifiers_look_at_every_value_of_the_request() -> None:
    key, wanted = "s3:RequestObjectTagKeys", ["a", "b"]
    assert conditioned("ForAllValues:StringEquals", key, wanted, "a", "b")
    assert not conditioned("ForAllValues:StringEquals", key, wanted, "a", "c")
    assert conditioned("ForAnyValue:StringEquals", key, wanted, "c", "a")
    assert not conditioned("ForAnyValue:StringEquals", key, wanted, "c", "d")
    assert conditioned("ForAnyValue:StringNotEquals", key, wanted, "c", "a")
    assert not conditioned("ForAllValues:StringNotEquals", key, wanted, "c", "a")


def test_a_negated_operator_holds_when_no_value_of_the_request_fits() -> None:
    assert not conditioned("StringNotEquals", "s3:prefix", "a", "a", "b")
    assert conditioned("StringNotEquals", "s3:prefix", "a", "b", "c")


# ------------------------------------------------------------------ the decision
def test_principals_are_meant_one_by_one() -> None:
    for principal in ({"AWS": "ann"}, {"AWS": ["x", "arn:aws:iam::ann:root"]},
                      {"CanonicalUser": "ann"}):  # fmt: skip
        policy = made({"Principal": principal})
        assert effect(policy, asked("ann")) is Effect.ALLOW
        assert effect(policy, asked("bob")) is Effect.NOTHING
        assert effect(policy, asked("")) is Effect.NOTHING
    for everybody in ("*", {"AWS": "*"}):
        assert effect(made({"Principal": everybody}), asked("")) is Effect.ALLOW


def test_the_not_forms_mean_everything_else() -> None:
    base = {"Effect": "Deny", "NotPrincipal": {"AWS": "ann"}, "NotAction": "s3:PutObject",
            "NotResource": "arn:aws:s3:::b/open/*"}  # fmt: skip
    policy = parse_policy(json.dumps({"Statement": base}).encode())
    assert effect(policy, asked("bob")) is Effect.DENY
    assert effect(policy, asked("ann")) is Effect.NOTHING
    assert effect(policy, asked("bob", "s3:PutObject")) is Effect.NOTHING
    assert effect(policy, asked("bob", key="open/x")) is Effect.NOTHING


def test_variables_need_the_newer_version() -> None:
    resource = {"Resource": "arn:aws:s3:::b/${aws:username}/*"}
    request = asked(key="ann/x", aws__username="ann")
    assert effect(made(resource), request) is Effect.ALLOW
    assert effect(made(resource, version="2008-10-17"), request) is Effect.NOTHING


def test_the_verdict_names_its_statement() -> None:
    policy = made({"Sid": "Open"}, {"Effect": "Deny", "Resource": "arn:aws:s3:::b/s*"})
    assert evaluate(policy, asked()).statement == "Open"
    assert evaluate(policy, asked(key="secret")).statement == "2"


STATEMENTS = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Deny"]),
        "Principal": st.sampled_from(["*", {"AWS": "ann"}, {"AWS": ["bob", "cy"]}]),
        "Action": st.sampled_from(["s3:*", "s3:Get*", "s3:PutObject", ["s3:GetObject", "*"]]),
        "Resource": st.sampled_from(["*", "arn:aws:s3:::b/a*", "arn:aws:s3:::b/*"]),
        "Condition": st.sampled_from(
            [{}, {"StringLike": {"aws:Referer": "a*"}}, {"Null": {"aws:Referer": True}}]
        ),
    }
)
REQUESTS = st.builds(
    lambda who, action, key, referer: Asked(
        who, action, resource_of("b", key), {"aws:referer": (referer,)} if referer else {}
    ),
    st.sampled_from(["", "ann", "bob", "dan"]),
    st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "a", "b"]),
)
SEVERAL = st.lists(STATEMENTS, min_size=1, max_size=5)


@given(SEVERAL, REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_statements_does_not_matter(
    statements: list[Any], request: Asked, rng: Any
) -> None:
    before = effect(made(*statements), request)
    rng.shuffle(statements)
    assert effect(made(*statements), request) is before


@given(SEVERAL, REQUESTS)
def test_together_they_say_what_they_say_alone_and_a_deny_wins(
    statements: list[Any], request: Asked
) -> None:
    alone = {effect(made(one), request) for one in statements}
    wins = next(e for e in (Effect.DENY, Effect.ALLOW, Effect.NOTHING) if e in alone)
    assert effect(made(*statements), request) is wins


@given(SEVERAL, REQUESTS, STATEMENTS)
def test_a_statement_that_does_not_apply_changes_nothing(
    statements: list[Any], request: Asked, other: Any
) -> None:
    missed = other | {"Resource": "arn:aws:s3:::b/never"}
    assert effect(made(*statements, missed), request) is effect(made(*statements), request)


@given(SEVERAL, REQUESTS)
def test_what_is_allowed_to_a_stranger_is_public(statements: list[Any], request: Asked) -> None:
    stranger = Asked("", request.action, request.resource, request.context)
    if effect(made(*statements), stranger) is Effect.ALLOW:
        assert is_public(made(*statements))


@pytest.mark.parametrize(
    ("change", "public"),
    [
        ({}, True), ({"Principal": {"AWS": "*"}}, True), ({"Principal": {"AWS": "ann"}}, False),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "0.0.0.0/1"]}}}, True),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "::/0"}}}, True),
        ({"Condition": {"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, True),
        ({"Condition": {"StringEquals": {"aws:PrincipalAccount": "ann"}}}, False),
        ({"Condition": {"StringLike": {"aws:PrincipalAccount": "*"}}}, True),
        ({"Condition": {"StringEqualsIfExists": {"aws:PrincipalAccount": "ann"}}}, True),
        ({"Condition": {"StringEquals": {"aws:Referer": "x"}}}, True),
    ],
    ids=str,
)  # fmt: skip
def test_what_counts_as_public(change: dict[str, Any], public: bool) -> None:
    assert is_public(made(change)) is public


# ------------------------------------------------------------------ names
def test_every_operation_of_the_model_has_an_action() -> None:
    names = botocore.session.get_session().get_service_model("s3").operation_names
    assert all(action_of(name).startswith("s3:") for name in names)
    assert action_of("HeadObject") == "s3:GetObject"
    assert action_of("HeadObject", versioned=True) == "s3:GetObjectVersion"
    assert action_of("GetObjectAcl", versioned=True) == "s3:GetObjectVersionAcl"
    assert action_of("UploadPart", versioned=True) == "s3:PutObject"
    assert action_of("ListBucketMetricsConfigurations") == "s3:GetMetricsConfiguration"


def test_a_resource_is_of_its_bucket() -> None:
    assert all(concerns(f"arn:aws:s3:::{name}", "b") for name in ("b", "b/k", "b*", "*", "?/x"))
    assert not any(concerns(f"arn:aws:s3:::{name}", "b") for name in ("c", "c/b", "bb/*"))


@pytest.mark.parametrize(
    ("action", "bucket", "keys"),
    [("s3:getobject", False, True), ("s3:abortmultipartupload", False, True),
     ("s3:listbucket", True, False), ("s3:listbucketmultipartuploads", True, False),
     ("s3:getbucketobjectlockconfiguration", True, False), ("s3:get*", True, True)],
)  # fmt: skip
def test_an_action_is_about_buckets_or_about_objects(action: str, bucket: bool, keys: bool) -> None:
    assert applies_to(action, resource_of("b")) is bucket
    assert applies_to(action, resource_of("b", "*")) is keys
    assert applies_to(action, "*")
    assert applies_to(action, "arn:aws:s3:::b*")
