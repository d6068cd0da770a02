"""AssumeRoleWithWebIdentity by boto3, with a local issuer over HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config

from chain.clock import SystemClock
from tests.conformance.iam_server import IamServer, code_of, running_iam, session_of
from tests.conformance.oidc_issuer import Issuer, running_issuer, signed
from tests.conformance.test_iam_users import policy


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def server() -> Iterator[IamServer]:
    with running_iam() as server:
        yield server


@pytest.fixture(scope="module")
def provider(server: IamServer, issuer: Issuer) -> str:
    made = server.root("iam").create_open_id_connect_provider(
        Url=issuer.url, ClientIDList=["app", "other-app"]
    )
    return str(made["OpenIDConnectProviderArn"])


@pytest.fixture(scope="module")
def sts(server: IamServer) -> Any:
    """Nobody: web identities need no keys."""
    config = Config(signature_version=UNSIGNED, retries={"max_attempts": 1})
    return boto3.client("sts", endpoint_url=server.endpoint, region_name="us-east-1", config=config)


def make_role(
    server: IamServer, name: str, provider: str, condition: Any = None, more: Any = ()
) -> str:
    trust = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Federated": provider},
        "Action": ["sts:AssumeRoleWithWebIdentity", *more],
        "Condition": condition or {},
    }]}  # fmt: skip
    iam = server.root("iam")
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=policy("s3:ListAllMyBuckets"))
    return str(made["Role"]["Arn"])


def claims(**more: Any) -> dict[str, Any]:
    now = SystemClock().now_ns() // 10**9
    return {"sub": "zoe", "aud": "app", "iat": now, "exp": now + 300} | more


@pytest.mark.parametrize("key_id", ["rsa", "ec"])
def test_a_token_of_a_configured_issuer_gives_a_session(
    server: IamServer, issuer: Issuer, provider: str, sts: Any, key_id: str
) -> None:
    arn = make_role(server, f"Web-{key_id}", provider)
    made = sts.assume_role_with_web_identity(
        RoleArn=arn, RoleSessionName="zoe", WebIdentityToken=issuer.token(key_id, **claims())
    )
    assert made["SubjectFromWebIdentityToken"] == "zoe"
    assert (made["Audience"], made["Provider"]) == ("app", issuer.url)
    assert made["AssumedRoleUser"]["Arn"].endswith(f":assumed-role/Web-{key_id}/zoe")
    s3 = server.of("s3", session_of(made))
    s3.list_buckets()
    assert code_of(s3.create_bucket, Bucket="not-allowed") == "AccessDenied"


def test_conditions_are_asked_of_the_tokens_claims(
    server: IamServer, issuer: Issuer, provider: str, sts: Any
) -> None:
    name = issuer.url.partition("://")[2]
    arn = make_role(server, "Conditions", provider, {
        "StringEquals": {f"{name}:aud": "app", f"{name}:app_id": "x"},
        "StringLike": {f"{name}:sub": "z*"},
        "ForAnyValue:StringEquals": {f"{name}:groups": "admins"},
    })  # fmt: skip
    named = {"RoleArn": arn, "RoleSessionName": "zoe"}
    good = claims(app_id="x", groups=["users", "admins"])
    sts.assume_role_with_web_identity(WebIdentityToken=issuer.token(**good), **named)
    by_azp = good | {"aud": "other-app", "azp": "app"}
    sts.assume_role_with_web_identity(WebIdentityToken=issuer.token(**by_azp), **named)
    for wrong in ({"sub": "ann"}, {"aud": "other-app"}, {"app_id": "y"}, {"groups": ["users"]}):
        token = issuer.token(**(good | wrong))
        assert code_of(sts.assume_role_with_web_identity, WebIdentityToken=token, **named) == (
            "AccessDenied"
        )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"exp": 1}, "ExpiredTokenException"), ({"exp": None}, "InvalidIdentityToken"),
        ({"aud": "third"}, "InvalidIdentityToken"), ({"aud": None}, "InvalidIdentityToken"),
        ({"sub": ""}, "InvalidIdentityToken"), ({"iss": "http://other"}, "InvalidIdentityToken"),
        ({"nbf": 1 << 40}, "InvalidIdentityToken"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_right_with_a_token_is_refused(
    server: IamServer, issuer: Issuer, provider: str, sts: Any, change: Any, code: str
) -> None:
    name = f"Wrong-{abs(hash(str(change)))}"
    named = {"RoleArn": make_role(server, name, provider), "RoleSessionName": "zoe"}
    token = issuer.token(**claims(**change))
    assert code_of(sts.assume_role_with_web_identity, WebIdentityToken=token, **named) == code


def test_strangers_tokens_and_roles_are_refused(
    server: IamServer, issuer: Issuer, provider: str, sts: Any
) -> None:
    arn = make_role(server, "Strangers", provider)
    named = {"RoleArn": arn, "RoleSessionName": "zoe"}
    call = sts.assume_role_with_web_identity
    asked = len(issuer.asked)
    forged = signed({"iss": issuer.url} | claims(), Issuer("").keys["rsa"], kid="rsa")
    assert code_of(call, WebIdentityToken=forged, **named) == "InvalidIdentityToken"
    assert code_of(call, WebIdentityToken="abcdef", **named) == "InvalidIdentityToken"
    good = issuer.token(**claims())
    assert code_of(call, WebIdentityToken=good, RoleArn=arn + "x", RoleSessionName="zoe") == (
        "AccessDenied"
    )
    secure = issuer.token(**claims(iss=issuer.url.replace("http:", "https:")))
    assert code_of(call, WebIdentityToken=secure, **named) == "InvalidIdentityToken", "not http"
    anybody = {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:*"}}
    made = server.root("iam").create_role(
        RoleName="Anybody", AssumeRolePolicyDocument=json.dumps(anybody)
    )
    given = {"RoleArn": made["Role"]["Arn"], "RoleSessionName": "zoe"}
    assert code_of(call, WebIdentityToken=good, **given) == "AccessDenied", (
        "its issuer is not named"
    )
    other = server.root("iam").create_open_id_connect_provider(Url="https://other.example")
    untrusting = make_role(server, "Untrusting", other["OpenIDConnectProviderArn"])
    assert code_of(call, WebIdentityToken=good, RoleArn=untrusting, RoleSessionName="zoe") == (
        "AccessDenied"
    )
    bob = server.root("iam", server.bob)
    trust = {"Statement": {"Effect": "Allow", "Principal": {"Federated": provider},
                           "Action": "sts:AssumeRoleWithWebIdentity"}}  # fmt: skip
    abroad = bob.create_role(RoleName="Abroad", AssumeRolePolicyDocument=json.dumps(trust))
    given = {"RoleArn": abroad["Role"]["Arn"], "RoleSessionName": "zoe"}
    assert code_of(call, WebIdentityToken=good, **given) == "InvalidIdentityToken", "not bob's"
    assert len(issuer.asked) <= asked + 2, "keys are asked for once"


def test_session_policies_and_tags_of_the_token(
    server: IamServer, issuer: Issuer, provider: str, sts: Any
) -> None:
    tagging = {"https://aws.amazon.com/tags": {"principal_tags": {"team": ["blue"]}}}
    untagged = make_role(server, "Untagged", provider)
    token = issuer.token(**claims(**tagging))
    given = {"RoleSessionName": "zoe", "WebIdentityToken": token}
    call = sts.assume_role_with_web_identity
    assert code_of(call, RoleArn=untagged, **given) == "AccessDenied"
    tagged = make_role(server, "Tagged", provider, more=["sts:TagSession"])
    server.root("iam").put_role_policy(RoleName="Tagged", PolicyName="p", PolicyDocument=policy(
        "s3:*", Condition={"StringEquals": {"aws:PrincipalTag/team": "blue"}}
    ))  # fmt: skip
    s3 = server.of("s3", session_of(call(RoleArn=tagged, **given)))
    s3.create_bucket(Bucket="of-the-blue-team")
    narrow = call(RoleArn=tagged, Policy=policy("s3:ListAllMyBuckets"), **given)
    s3 = server.of("s3", session_of(narrow))
    s3.list_buckets()
    assert code_of(s3.delete_bucket, Bucket="of-the-blue-team") == "AccessDenied"


def test_an_issuer_that_does_not_answer_is_said_to(server: IamServer, sts: Any) -> None:
    with running_issuer() as gone:
        made = server.root("iam").create_open_id_connect_provider(
            Url=gone.url, ClientIDList=["app"]
        )
        gone.documents = {}
        arn = make_role(server, "Gone", made["OpenIDConnectProviderArn"])
        named = {"RoleArn": arn, "RoleSessionName": "zoe"}
        token = gone.token(**claims())
        call = sts.assume_role_with_web_identity
        assert code_of(call, WebIdentityToken=token, **named) == "IDPCommunicationError"
        assert len(gone.asked) == 1
