"""IAM and STS against a running network with two workers: boto3 over http and https, `aws iam`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.clients.running import RunningNetwork
from tests.conformance.iam_server import code_of
from tests.conformance.oidc_issuer import running_issuer

pytestmark = [pytest.mark.client, pytest.mark.network, pytest.mark.timeout(300)]

READ = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
FULL = "arn:aws:iam::aws:policy/AmazonS3FullAccess"


def pair(made: Any) -> tuple[str, ...]:
    """Keys as a session of boto3 takes them."""
    found = (made["AccessKeyId"], made["SecretAccessKey"], made.get("SessionToken"))
    return tuple(one for one in found if one)


def test_every_worker_knows_at_once_what_a_user_may(network: RunningNetwork) -> None:
    iam, root = network.boto("iam"), network.boto()
    root.create_bucket(Bucket="of-iam")
    iam.create_user(UserName="zoe")
    key = iam.create_access_key(UserName="zoe")["AccessKey"]
    s3 = network.boto(keys=pair(key))
    iam.create_group(GroupName="readers")
    iam.add_user_to_group(GroupName="readers", UserName="zoe")

    def heard() -> set[str]:
        """What new connections, which either worker may take, say of a PUT."""
        found = set()
        for _ in range(6):
            try:
                s3.put_object(Bucket="of-iam", Key="k", Body=b"x" * 70_000)
                found.add("")
            except ClientError as error:
                found.add(error.response["Error"]["Code"])
            s3.close()
        return found

    assert heard() == {"AccessDenied"}
    iam.attach_group_policy(GroupName="readers", PolicyArn=FULL)
    assert heard() == {""}
    iam.update_access_key(UserName="zoe", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert heard() == {"InvalidAccessKeyId"}
    iam.update_access_key(UserName="zoe", AccessKeyId=key["AccessKeyId"], Status="Active")
    iam.put_user_policy(UserName="zoe", PolicyName="no", PolicyDocument=json.dumps(
        {"Statement": {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"}}
    ))  # fmt: skip
    assert heard() == {"AccessDenied"}
    iam.delete_access_key(UserName="zoe", AccessKeyId=key["AccessKeyId"])
    assert heard() == {"InvalidAccessKeyId"}
    iam.delete_user_policy(UserName="zoe", PolicyName="no")
    iam.remove_user_from_group(GroupName="readers", UserName="zoe")
    iam.detach_group_policy(GroupName="readers", PolicyArn=FULL)
    iam.delete_group(GroupName="readers")
    iam.delete_user(UserName="zoe")
    root.delete_object(Bucket="of-iam", Key="k")
    root.delete_bucket(Bucket="of-iam")


def test_sessions_of_roles_work_at_every_worker(network: RunningNetwork) -> None:
    iam = network.boto("iam")
    with running_issuer() as issuer:
        provider = iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app"])
        arn = provider["OpenIDConnectProviderArn"]
        user = iam.create_user(UserName="ann")["User"]
        key = iam.create_access_key(UserName="ann")["AccessKey"]
        trust = {"Statement": [
            {"Effect": "Allow", "Principal": {"AWS": user["Arn"]}, "Action": "sts:AssumeRole"},
            {"Effect": "Allow", "Principal": {"Federated": arn},
             "Action": "sts:AssumeRoleWithWebIdentity"},
        ]}  # fmt: skip
        role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust))
        iam.attach_role_policy(RoleName="reader", PolicyArn=READ)
        named = {"RoleArn": role["Role"]["Arn"], "RoleSessionName": "s1"}
        assumed = network.boto("sts", pair(key)).assume_role(**named)
        token = issuer.token(sub="zoe", aud="app", exp=1 << 40)
        web = network.boto("sts").assume_role_with_web_identity(WebIdentityToken=token, **named)
        for made in (assumed, web):
            s3 = network.boto(keys=pair(made["Credentials"]))
            for _ in range(4):
                s3.list_buckets()
                assert code_of(s3.create_bucket, Bucket="not-made") == "AccessDenied"
                s3.close()
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    iam.detach_role_policy(RoleName="reader", PolicyArn=READ)
    iam.delete_role(RoleName="reader")
    assert code_of(s3.list_buckets) == "InvalidToken"
    iam.delete_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="ann")


def test_the_aws_command_line_makes_users_and_assumes_roles(
    secure_network: RunningNetwork, tmp_path: Path
) -> None:
    network = secure_network

    def asked(*words: str) -> Any:
        return json.loads(network.aws(*words, "--output", "json").stdout)

    def by(keys: Any, *words: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys.get("SessionToken", ""),
        }
        return network.aws(*words, check=False, **environ)

    assert asked("sts", "get-caller-identity")["Arn"].endswith(":root")
    user = asked("iam", "create-user", "--user-name", "cli", "--path", "/a/")["User"]
    keys = asked("iam", "create-access-key", "--user-name", "cli")["AccessKey"]
    assert "AccessDenied" in by(keys, "s3", "ls").stderr
    trust = {"Statement": {"Effect": "Allow", "Principal": {"AWS": user["Arn"]},
                           "Action": "sts:AssumeRole"}}  # fmt: skip
    (tmp_path / "trust").write_text(json.dumps(trust))
    role = asked("iam", "create-role", "--role-name", "cli-role",
                 "--assume-role-policy-document", f"file://{tmp_path}/trust")["Role"]  # fmt: skip
    assert role["AssumeRolePolicyDocument"] == trust
    network.aws("iam", "attach-role-policy", "--role-name", "cli-role", "--policy-arn", READ)
    made = by(keys, "sts", "assume-role", "--role-arn", role["Arn"],
              "--role-session-name", "s1", "--output", "json")  # fmt: skip
    assert by(json.loads(made.stdout)["Credentials"], "s3", "ls").returncode == 0
