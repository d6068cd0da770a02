"""The S3 front end with IAM and STS, and clients of both for anybody."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from chain.clock import SystemClock, system_entropy
from gateway.iam.face import IamFace
from gateway.iam.store import IamStore
from gateway.model import Credential
from gateway.s3.app import S3App
from tests.conformance.s3_server import serving
from tests.unit.object_parts import World


@dataclass
class IamServer:
    """A running server: `ann` and `bob` are accounts with nothing but their root keys."""

    endpoint: str
    world: World
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
        """A client of a user."""
        return self.client(service, user["access_key"], user["secret_key"], **more)


@contextmanager
def running_iam(**options: Any) -> Iterator[IamServer]:
    """Serve a fresh, empty store until the block ends."""
    world = World()

    async def accounts() -> tuple[Credential, Credential]:
        return (
            await world.accounts.create("Ann", id="ann-id", email="ann@example.org"),
            await world.accounts.create("Bob", id="bob-id"),
        )

    ann, bob = asyncio.run(accounts())
    face = IamFace(
        IamStore(world.catalog), world.accounts.credential,
        clock=SystemClock(), entropy=system_entropy, **options,
    )  # fmt: skip
    with serving(S3App(world.objects, world.accounts.credential, iam=face)) as server:
        yield IamServer(server.endpoint, world, ann, bob)


def code_of(call: Any, **parameters: Any) -> str:
    """The error code of a call that has to fail."""
    try:
        call(**parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    raise AssertionError("it did not fail")
