"""The S3 front end with IAM and STS, and clients of both for anybody."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from chain.clock import Clock, SystemClock, system_entropy
from gateway.iam.face import IamFace
from gateway.iam.fetching import Fetcher
from gateway.iam.issuers import Issuers
from gateway.model import Credential
from gateway.s3.app import S3App
from tests.conformance.s3_server import serving
from tests.unit.object_parts import World


@dataclass
class IamServer:
    """A running server: `ann` and `bob` are accounts with nothing but their root keys."""

    endpoint: str
    world: World
    face: IamFace
    ann: Credential
    bob: Credential

    def client(
        self, service: str, access_key: str, secret_key: str, token: str | None = None, **more: Any
    ) -> Any:
        """A boto3 client."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **more),
        )

    def root(self, service: str, who: Credential | None = None) -> Any:
        """A client of an account itself."""
        who = who or self.ann
        return self.client(service, who.access_key, who.secret_key)

    def user(self, name: str, who: Credential | None = None) -> dict[str, str]:
        """A new user; its key pair as `client` takes it, and `arn`."""
        iam = self.root("iam", who)
        arn = iam.create_user(UserName=name)["User"]["Arn"]
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"], "arn": arn,
        }  # fmt: skip

    def of(self, service: str, user: dict[str, str], **more: Any) -> Any:
        """A client of a user, or of a session."""
        return self.client(
            service, user["access_key"], user["secret_key"], user.get("token"), **more
        )

    def assume(self, user: dict[str, str], role: str, **more: Any) -> dict[str, str]:
        """A session of a role, as `of` takes it."""
        sts = self.of("sts", user)
        return session_of(sts.assume_role(RoleArn=role, RoleSessionName="session", **more))


@contextmanager
def running_iam(clock: Clock | None = None, **options: Any) -> Iterator[IamServer]:
    """Serve a fresh, empty store until the block ends."""
    world = World()

    async def accounts() -> tuple[Credential, Credential]:
        return (
            await world.accounts.create("Ann", id="ann-id", email="ann@example.org"),
            await world.accounts.create("Bob", id="bob-id", email="bob@example.org"),
        )

    ann, bob = asyncio.run(accounts())
    face = IamFace(
        world.catalog, world.accounts.credential, token_key=b"t" * 32,
        issuers=Issuers(Fetcher(SystemClock()).fetch, SystemClock()),
        clock=clock or SystemClock(), entropy=system_entropy, **options,
    )  # fmt: skip
    app = S3App(world.objects, world.accounts.credential, clock=clock, iam=face)
    with serving(app) as server:
        yield IamServer(server.endpoint, world, face, ann, bob)


def session_of(answer: Any) -> dict[str, str]:
    """The credentials of an answer of STS, as IamServer.of takes them."""
    made = answer["Credentials"]
    return {
        "access_key": made["AccessKeyId"],
        "secret_key": made["SecretAccessKey"],
        "token": made["SessionToken"],
    }


def code_of(call: Any, **parameters: Any) -> str:
    """The error code of a call that has to fail."""
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    raise AssertionError("it did not fail")
