"""Sessions by boto3: GetSessionToken, AssumeRole, and what they may do on S3."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest

from chain.clock import SystemClock
from gateway.iam.tokens import unseal
from tests.conformance.iam_server import IamServer, code_of, running_iam, session_of
from tests.conformance.test_iam_users import policy

BUCKET = "sessions"


@pytest.fixture(scope="module")
def server() -> Iterator[IamServer]:
    with running_iam() as server:
        server.root("s3").create_bucket(Bucket=BUCKET)
        server.root("s3").put_object(Bucket=BUCKET, Key="k", Body=b"body")
        yield server


@pytest.fixture(scope="module")
def iam(server: IamServer) -> Any:
    return server.root("iam")


@pytest.fixture(scope="module")
def user(server: IamServer, iam: Any) -> dict[str, str]:
    made = server.user("assumer")
    iam.put_user_policy(UserName="assumer", PolicyName="p", PolicyDocument=policy("sts:*"))
    return made


def now() -> float:
    return SystemClock().now_ns() / 1e9


def trust(principal: Any, action: Any = "sts:AssumeRole", **more: Any) -> str:
    one = {"Effect": "Allow", "Action": action, "Principal": {"AWS": principal}} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


def role(iam: Any, name: str, document: str, *allowed: str, **more: Any) -> str:
    """A role's ARN; it may do what is `allowed`."""
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document, **more)["Role"]
    if allowed:
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy(list(allowed)))
    return str(made["Arn"])


def test_everybody_may_ask_who_they_are(server: IamServer, user: dict[str, str]) -> None:
    who = server.root("sts").get_caller_identity()
    assert (who["Account"], who["UserId"]) == ("ann-id", "ann-id")
    assert who["Arn"] == "arn:aws:iam::ann-id:root"
    nobody = server.of("sts", server.user("who")).get_caller_identity()
    assert nobody["Arn"] == "arn:aws:iam::ann-id:user/who"
    arn = role(server.root("iam"), "Who", trust(user["arn"]))
    session = server.of("sts", server.assume(user, arn)).get_caller_identity()
    assert session["Arn"] == "arn:aws:sts::ann-id:assumed-role/Who/session"
    assert session["UserId"].startswith("AROA")
    assert session["UserId"].endswith(":session")


@pytest.mark.parametrize("signature", ["s3v4", "s3"], ids=["v4", "v2"])
def test_a_session_token_has_its_users_rights_to_s3(
    server: IamServer, iam: Any, signature: str
) -> None:
    name = f"token-{signature}"
    own = server.user(name)
    made = server.of("sts", own).get_session_token(DurationSeconds=900)
    lasts = made["Credentials"]["Expiration"].timestamp() - now()
    assert 890 < lasts <= 900
    session = session_of(made)
    s3 = server.of("s3", session, signature_version=signature)
    assert code_of(s3.get_object, Bucket=BUCKET, Key="k") == "AccessDenied"
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy("s3:*"))
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"body"
    s3.put_object(Bucket=BUCKET, Key="by-session", Body=b"x" * 100)
    url = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "k"})
    assert urllib.request.urlopen(url).read() == b"body"
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy("*"))
    assert code_of(server.of("iam", session).list_users) == "InvalidClientTokenId"
    assert code_of(server.of("sts", session).get_session_token) == "AccessDenied"
    iam.delete_user_policy(UserName=name, PolicyName="p")
    iam.delete_access_key(UserName=name, AccessKeyId=own["access_key"])
    iam.delete_user(UserName=name)
    assert code_of(s3.list_buckets) == "InvalidToken", "its user is gone"
    server.user(name)
    assert code_of(s3.list_buckets) == "InvalidToken", "another user of the same name"


def test_an_accounts_own_session_is_short_and_has_no_iam(server: IamServer) -> None:
    made = server.root("sts").get_session_token()
    assert made["Credentials"]["Expiration"].timestamp() - now() <= 3600
    session = session_of(made)
    server.of("s3", session).list_buckets()
    assert code_of(server.of("iam", session).list_users) == "InvalidClientTokenId"


def test_forms_take_sessions(server: IamServer) -> None:
    session = session_of(server.root("sts").get_session_token())
    form = server.of("s3", session).generate_presigned_post(BUCKET, "by-form")
    sent = httpx.post(form["url"], data=form["fields"], files={"file": b"form"})
    assert sent.status_code == 204, sent.text
    nobody = server.of("s3", server.user("form-of-nobody"))
    form = nobody.generate_presigned_post(BUCKET, "by-form")
    sent = httpx.post(form["url"], data=form["fields"], files={"file": b"form"})
    assert sent.status_code == 403, "a user's form may what the user may"


@pytest.mark.parametrize("at", [0, 1, 30, 100, -30, -1])
def test_a_changed_token_is_none(server: IamServer, at: int) -> None:
    session = session_of(server.root("sts").get_session_token())
    token = list(session["token"])
    token[at] = "A" if token[at] != "A" else "B"
    changed = session | {"token": "".join(token)}
    assert code_of(server.of("s3", changed).list_buckets) == "InvalidToken"
    assert code_of(server.of("sts", changed).get_caller_identity) == "InvalidClientTokenId"


def test_tokens_go_with_their_own_keys_alone(server: IamServer) -> None:
    one = session_of(server.root("sts").get_session_token())
    other = session_of(server.root("sts").get_session_token())
    mixed = one | {"token": other["token"]}
    assert code_of(server.of("s3", mixed).list_buckets) == "InvalidToken"
    root = {"access_key": server.ann.access_key, "secret_key": server.ann.secret_key}
    assert code_of(server.of("s3", root | {"token": one["token"]}).list_buckets) == "InvalidToken"
    bare = server.client("s3", one["access_key"], one["secret_key"])
    assert code_of(bare.list_buckets) == "InvalidAccessKeyId"
    wrong = one | {"secret_key": other["secret_key"]}
    assert code_of(server.of("s3", wrong).list_buckets) == "SignatureDoesNotMatch"


def test_an_expired_session_is_said_to_be(server: IamServer) -> None:
    good = session_of(server.root("sts").get_session_token())
    session = unseal(good["token"], b"t" * 32)
    made, token = server.face.sessions.issue(msgspec.structs.replace(session, expires=int(now())))
    old = {"access_key": made.access_key, "secret_key": made.secret, "token": token}
    assert code_of(server.of("s3", old).list_buckets) == "ExpiredToken"
    assert code_of(server.of("sts", old).get_caller_identity) == "ExpiredToken"


def test_a_role_gives_what_its_policies_say(
    server: IamServer, iam: Any, user: dict[str, str]
) -> None:
    arn = role(iam, "Reader", trust(user["arn"]))
    s3 = server.of("s3", server.assume(user, arn))
    assert code_of(s3.list_buckets) == "AccessDenied"
    iam.put_role_policy(
        RoleName="Reader", PolicyName="p", PolicyDocument=policy(["s3:Get*", "s3:ListAllMyBuckets"])
    )
    s3.list_buckets()
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"body"
    assert code_of(s3.put_object, Bucket=BUCKET, Key="k", Body=b"") == "AccessDenied"
    iam.delete_role_policy(RoleName="Reader", PolicyName="p")
    iam.delete_role(RoleName="Reader")
    assert code_of(s3.list_buckets) == "InvalidToken", "its role is gone"
    role(iam, "Reader", trust(user["arn"]), "s3:*")
    assert code_of(s3.list_buckets) == "InvalidToken", "another role of the same name"


def test_a_session_policy_narrows_a_role(server: IamServer, iam: Any, user: dict[str, str]) -> None:
    arn = role(iam, "Wide", trust(user["arn"]), "s3:*")
    narrow = server.assume(user, arn, Policy=policy("s3:GetObject"))
    s3 = server.of("s3", narrow)
    assert s3.get_object(Bucket=BUCKET, Key="k")["Body"].read() == b"body"
    assert code_of(s3.list_buckets) == "AccessDenied"
    read = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
    s3 = server.of("s3", server.assume(user, arn, PolicyArns=[{"arn": read}]))
    s3.list_buckets()
    assert code_of(s3.put_object, Bucket=BUCKET, Key="k", Body=b"") == "AccessDenied"
    own = iam.create_policy(PolicyName="Own", PolicyDocument=policy("s3:*"))["Policy"]["Arn"]
    s3 = server.of("s3", server.assume(user, arn, PolicyArns=[{"arn": own}]))
    s3.list_buckets()
    iam.delete_policy(PolicyArn=own)
    assert code_of(s3.list_buckets) == "AccessDenied", "what narrowed it is gone: nothing is left"
    sts, named = server.of("sts", user), {"RoleArn": arn, "RoleSessionName": "session"}
    assert code_of(sts.assume_role, **named, Policy="{}") == "MalformedPolicyDocument"
    assert code_of(sts.assume_role, **named, PolicyArns=[{"arn": own}]) == "NoSuchEntity"
    iam.create_policy(PolicyName="Own", Path="/p/", PolicyDocument=policy("s3:*"))
    others = "arn:aws:iam::bob-id:policy/p/Own"
    for arn_of_none in (own, others):
        given = [{"arn": arn_of_none}]
        assert code_of(sts.assume_role, **named, PolicyArns=given) == "NoSuchEntity"
    # A grant of the bucket's policy to the role is within the session's policy, to the session not.
    session = "arn:aws:sts::ann-id:assumed-role/Wide/session"
    for principal, allowed in ((arn, False), (session, True)):
        document = json.dumps({"Statement": [
            {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "s3:PutObject",
             "Resource": f"arn:aws:s3:::{BUCKET}/*"}
        ]})  # fmt: skip
        server.root("s3").put_bucket_policy(Bucket=BUCKET, Policy=document)
        put = {"Bucket": BUCKET, "Key": "narrow", "Body": b""}
        if allowed:
            server.of("s3", narrow).put_object(**put)
        else:
            assert code_of(server.of("s3", narrow).put_object, **put) == "AccessDenied"
    server.root("s3").delete_bucket_policy(Bucket=BUCKET)


def test_who_is_not_trusted_gets_no_session(
    server: IamServer, iam: Any, user: dict[str, str]
) -> None:
    nobody = server.user("no-policies")
    abroad = server.user("abroad", server.bob)
    able = server.user("able", server.bob)
    server.root("iam", server.bob).put_user_policy(
        UserName="able", PolicyName="p", PolicyDocument=policy("sts:AssumeRole")
    )
    account = "arn:aws:iam::ann-id:root"
    cases: list[tuple[str, Any, list[dict[str, str]], list[dict[str, str]]]] = [
        ("ByUser", nobody["arn"], [nobody], [user, abroad, able]),
        ("ByAccount", account, [user], [nobody, abroad, able]),
        ("ByAnybody", "*", [user, nobody, able], [abroad]),
        ("ByOther", "bob-id", [able], [user, nobody, abroad]),
        ("ByOthersUser", abroad["arn"], [abroad], [user, nobody, able]),
    ]
    for name, principal, trusted, others in cases:
        arn = role(iam, name, trust(principal))
        for who in trusted:
            server.assume(who, arn)
        for who in others:
            sts = server.of("sts", who)
            named = {"RoleArn": arn, "RoleSessionName": "session"}
            assert code_of(sts.assume_role, **named) == "AccessDenied", (name, who["arn"])
    missing = {"RoleArn": f"{arn}-not-there", "RoleSessionName": "session"}
    assert code_of(server.of("sts", user).assume_role, **missing) == "AccessDenied"
    assert code_of(server.root("sts").assume_role, **missing) == "AccessDenied"


def test_a_deny_of_the_users_own_policies_goes_before_trust(server: IamServer, iam: Any) -> None:
    who = server.user("denied")
    iam.put_user_policy(UserName="denied", PolicyName="p",
                        PolicyDocument=policy("sts:*", effect="Deny"))  # fmt: skip
    arn = role(iam, "Denied", trust(who["arn"]))
    sts = server.of("sts", who)
    assert code_of(sts.assume_role, RoleArn=arn, RoleSessionName="s1") == "AccessDenied"
    assert code_of(sts.get_session_token) == "AccessDenied"
    sts.get_caller_identity()


def test_trust_has_conditions(server: IamServer, iam: Any, user: dict[str, str]) -> None:
    document = trust(user["arn"], Condition={"StringEquals": {"sts:ExternalId": "secret"}})
    arn = role(iam, "External", document)
    sts, named = server.of("sts", user), {"RoleArn": arn, "RoleSessionName": "s1"}
    assert code_of(sts.assume_role, **named) == "AccessDenied"
    assert code_of(sts.assume_role, **named, ExternalId="other") == "AccessDenied"
    sts.assume_role(**named, ExternalId="secret")


def test_tags_of_a_session_need_their_own_trust_and_reach_policies(
    server: IamServer, iam: Any, user: dict[str, str]
) -> None:
    arn = role(iam, "Tagged", trust(user["arn"]), Tags=[{"Key": "team", "Value": "red"}])
    iam.put_role_policy(RoleName="Tagged", PolicyName="p", PolicyDocument=policy(
        "s3:GetObject", Condition={"StringEquals": {"aws:PrincipalTag/Team": "blue"}}
    ))  # fmt: skip
    sts, named = server.of("sts", user), {"RoleArn": arn, "RoleSessionName": "session"}
    tags = [{"Key": "team", "Value": "blue"}]
    assert code_of(sts.assume_role, **named, Tags=tags) == "AccessDenied"
    iam.update_assume_role_policy(
        RoleName="Tagged", PolicyDocument=trust(user["arn"], ["sts:AssumeRole", "sts:TagSession"])
    )
    get = {"Bucket": BUCKET, "Key": "k"}
    red = server.of("s3", server.assume(user, arn))
    assert code_of(red.get_object, **get) == "AccessDenied"
    server.of("s3", server.assume(user, arn, Tags=tags)).get_object(**get)


def test_sessions_last_as_long_as_their_role_lets_them(
    server: IamServer, iam: Any, user: dict[str, str]
) -> None:
    arn = role(iam, "Long", trust("*"), "sts:*", MaxSessionDuration=7200)
    sts, named = server.of("sts", user), {"RoleArn": arn, "RoleSessionName": "s1"}
    assert code_of(sts.assume_role, **named, DurationSeconds=7201) == "ValidationError"
    made = sts.assume_role(**named, DurationSeconds=7200)
    assert made["Credentials"]["Expiration"].timestamp() - now() > 7100
    chained = server.of("sts", session_of(made))
    assert code_of(chained.assume_role, **named, DurationSeconds=3601) == "ValidationError"
    chained.assume_role(**named)


def test_a_role_acts_in_its_own_account_for_another_accounts_user(
    server: IamServer, iam: Any
) -> None:
    guest = server.user("guest", server.bob)
    arn = role(iam, "ForGuests", trust(guest["arn"]), "s3:CreateBucket", "iam:GetRole")
    session = server.assume(guest, arn)
    server.of("s3", session).create_bucket(Bucket="made-by-a-guest")
    owner = server.root("s3").get_bucket_acl(Bucket="made-by-a-guest")["Owner"]["ID"]
    assert owner == "ann-id"
    assert server.of("iam", session).get_role(RoleName="ForGuests")["Role"]["Arn"] == arn
    assert code_of(server.of("iam", session).list_roles) == "AccessDenied"
