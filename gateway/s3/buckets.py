"""Handlers of the service and of buckets' settings."""

from gateway.errors import InvalidArgument, InvalidBucketName, NotImplementedHere
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.errors import InvalidLocationConstraint
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.unsupported import canned_bucket_acl, check_object_acl, refuse_unsupported
from gateway.s3.xml_requests import parse_acl, parse_location

RESERVED = frozenset({"ipfs", "ipns"})  # paths of the IPFS gateway
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
    """Make a bucket, public with the canned ACL public-read."""
    headers = exchange.request.headers
    account = exchange.account
    refuse_unsupported(headers)
    public = canned_bucket_acl(headers) or False
    if operation.bucket in RESERVED:
        raise InvalidBucketName(BucketName=operation.bucket)
    region = parse_location(await exchange.document(SETTINGS_MAX, required=False))
    if exchange.config.region and region not in ("", exchange.config.region):
        raise InvalidLocationConstraint(LocationConstraint=region)
    await exchange.objects.create_bucket(account, operation.bucket, region=region, public=public)
    return Reply(200, [(b"location", f"/{operation.bucket}".encode())])


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


async def get_bucket_acl(exchange: Exchange, operation: ops.GetBucketAcl) -> Reply:
    """private or public-read, as a policy."""
    del operation
    bucket = exchange.bucket
    return xml_reply(xml.access_control_policy(bucket.owner, public=bucket.public))


async def put_bucket_acl(exchange: Exchange, operation: ops.PutBucketAcl) -> Reply:
    """Canned private or public-read, or a policy that says the same."""
    refuse_unsupported(exchange.request.headers)
    public = canned_bucket_acl(exchange.request.headers)
    data = await exchange.document(SETTINGS_MAX, required=public is None)
    if public is None:
        public = parse_acl(data, exchange.bucket.owner.id)
    if public is None:
        raise NotImplementedHere("Only private and public-read are implemented.")
    if public:
        exchange.permission.check_public_acl(exchange.bucket)
    await exchange.objects.configure_bucket(operation.bucket, public=public)
    return Reply(200)


async def get_object_acl(exchange: Exchange, operation: ops.GetObjectAcl) -> Reply:
    """An object has its bucket's access."""
    bucket = exchange.bucket
    exchange.objects.head(bucket, operation.key, operation.version_id)
    return xml_reply(xml.access_control_policy(bucket.owner, public=bucket.public))


async def put_object_acl(exchange: Exchange, operation: ops.PutObjectAcl) -> Reply:
    """Accepted when it says what is so already."""
    headers, bucket = exchange.request.headers, exchange.bucket
    refuse_unsupported(headers)
    exchange.objects.head(bucket, operation.key, operation.version_id)
    check_object_acl(headers, bucket)
    canned = headers.get("x-amz-acl")
    data = await exchange.document(SETTINGS_MAX, required=canned is None)
    if canned is None and parse_acl(data, bucket.owner.id) is not bucket.public:
        raise InvalidArgument("Objects take their bucket's access.")
    return Reply(200)


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
