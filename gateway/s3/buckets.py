"""Handlers of the service and of buckets' settings."""

from collections.abc import Mapping

from gateway.errors import BucketAlreadyExists, BucketAlreadyOwnedByYou, InvalidBucketName
from gateway.model import ACCESS_ACL, ACCESS_OWNERSHIP, OBJECT_LOCK
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.errors import InvalidLocationConstraint
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.lock_documents import asked_at_creation
from gateway.s3.ownership import created_settings
from gateway.s3.unsupported import refuse_unsupported
from gateway.s3.xml_requests import parse_location

RESERVED = frozenset({"ipfs", "ipns"})  # paths of the IPFS gateway
_MADE_WITH = (ACCESS_ACL, ACCESS_OWNERSHIP, OBJECT_LOCK)
SETTINGS_MAX = 64 * 1024


async def list_buckets(exchange: Exchange, operation: ops.ListBuckets) -> Reply:
    """The caller's buckets by name, paged when max-buckets asks for it."""
    account = exchange.account
    found = [
        bucket
        for bucket in exchange.objects.buckets(account)
        if bucket.name.startswith(operation.prefix) and bucket.name > operation.after
    ]
    after = ""
    if operation.limit and len(found) > operation.limit:
        found = found[: operation.limit]
        after = found[-1].name
    return xml_reply(xml.buckets(account, found, after=after, prefix=operation.prefix))


async def create_bucket(exchange: Exchange, operation: ops.CreateBucket) -> Reply:
    """Make a bucket with the list and the ownership that its headers give."""
    headers = exchange.request.headers
    account = exchange.account
    refuse_unsupported(headers)
    settings = created_settings(exchange)
    lock = asked_at_creation(headers)
    if lock is not None:
        settings = {**settings, OBJECT_LOCK: lock}
    if operation.bucket in RESERVED:
        raise InvalidBucketName(BucketName=operation.bucket)
    region = parse_location(await exchange.document(SETTINGS_MAX, required=False))
    if exchange.config.region and region not in ("", exchange.config.region):
        raise InvalidLocationConstraint(LocationConstraint=region)
    try:
        await exchange.objects.create_bucket(
            account, operation.bucket, region=region, settings=settings
        )
    except BucketAlreadyOwnedByYou:
        _check_again(exchange, operation.bucket, region, settings)
    return Reply(200, [(b"location", f"/{operation.bucket}".encode())])


def _check_again(exchange: Exchange, name: str, region: str, settings: Mapping[str, bytes]) -> None:
    """In us-east-1 an owner may make a bucket again, as long as that would change nothing.

    Raises BucketAlreadyOwnedByYou, BucketAlreadyExists.
    """
    bucket = exchange.objects.bucket(name)
    if not {region or "us-east-1", bucket.region or "us-east-1"} <= {"us-east-1"}:
        raise BucketAlreadyOwnedByYou
    kept = exchange.objects.settings(bucket)
    if any(kept.get(one) != settings.get(one) for one in _MADE_WITH):
        raise BucketAlreadyExists


async def head_bucket(exchange: Exchange, operation: ops.HeadBucket) -> Reply:
    """200 with the region."""
    del operation
    region = exchange.bucket.region or exchange.config.region or "us-east-1"
    return Reply(200, [(b"x-amz-bucket-region", region.encode())])


async def delete_bucket(exchange: Exchange, operation: ops.DeleteBucket) -> Reply:
    """Remove an empty bucket."""
    del operation
    await exchange.objects.delete_bucket(exchange.bucket)
    return Reply(204)


async def get_location(exchange: Exchange, operation: ops.GetBucketLocation) -> Reply:
    """The region; nothing for us-east-1, as AWS does."""
    del operation
    region = exchange.bucket.region or exchange.config.region
    shown = "" if region == "us-east-1" else xml.escape(region)
    return xml_reply(xml.document("LocationConstraint", shown))


async def fixed(exchange: Exchange, operation: ops.Fixed) -> Reply:
    """The answer that the sub-resource's table holds."""
    if operation.error is not None and operation.error.status == 501:
        raise operation.error
    if operation.key:
        exchange.objects.head(exchange.bucket, operation.key)
    if operation.error is not None:
        raise operation.error(BucketName=operation.bucket)
    if not operation.body:
        return Reply(operation.status)
    return xml_reply((xml.DECLARATION + operation.body).encode())
