"""What the friendly commands do over S3."""

import contextlib
from collections.abc import Iterator
from typing import Any

from gateway.commands.failures import Failed, WrongUse

DELETE_BATCH = 1000


@contextlib.contextmanager
def s3_errors() -> Iterator[None]:
    """boto3's exceptions as one line."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        wrong = error.response.get("Error", {})
        raise Failed(f"{wrong.get('Code', 'Error')}: {wrong.get('Message', error)}") from None
    except (BotoCoreError, Boto3Error) as error:
        raise Failed(str(error)) from None


def parse_url(text: str) -> tuple[str, str]:
    """`s3://BUCKET/KEY` -> (bucket, key); the key may be empty. Raises WrongUse."""
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket:
        raise WrongUse(f"{text!r}: s3://BUCKET/KEY is expected")
    return bucket, key


def list_buckets(client: Any) -> list[tuple[str, str]]:
    """(name, time of creation) of the account's buckets."""
    found = client.list_buckets().get("Buckets", [])
    return [(bucket["Name"], bucket["CreationDate"].isoformat()) for bucket in found]


def list_keys(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Every object below a prefix, page by page."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        yield from page.get("Contents", [])


def delete_prefix(client: Any, bucket: str, prefix: str) -> int:
    """Remove every object below a prefix; how many. Raises Failed for the first refusal."""
    count = 0
    batch: list[dict[str, str]] = []
    for item in list_keys(client, bucket, prefix):
        batch.append({"Key": item["Key"]})
        if len(batch) == DELETE_BATCH:
            count += _delete(client, bucket, batch)
            batch = []
    return count + (_delete(client, bucket, batch) if batch else 0)


def _delete(client: Any, bucket: str, batch: list[dict[str, str]]) -> int:
    reply = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
    for wrong in reply.get("Errors", []):
        raise Failed(f"{wrong.get('Code')}: {wrong.get('Key')}: {wrong.get('Message')}")
    return len(batch)
