"""Every setting of a bucket is put, got and deleted in the same way."""

import pytest

from gateway.s3.app import S3App
from gateway.s3.config import S3Config
from gateway.s3.settings import SETTINGS
from tests.protocol.s3_asgi import make_app, signed_call

DOCUMENTS = {
    "lifecycle": b"<LifecycleConfiguration><Rule><ID>r</ID><Filter/><Status>Enabled</Status>"
    b"<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
    "object-lock": b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>"
    b"<DefaultRetention><Mode>COMPLIANCE</Mode><Years>7</Years></DefaultRetention></Rule>"
    b"</ObjectLockConfiguration>",
    "cors": b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod>"
    b"<AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
    "tagging": b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
    "website": b"<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
    b"<ErrorDocument><Key>404.html</Key></ErrorDocument></WebsiteConfiguration>",
    "encryption": b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
    b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
    b"</ServerSideEncryptionConfiguration>",
    "policy": b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",'
    b'"Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}',
    "publicAccessBlock": b"<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls>"
    b"</PublicAccessBlockConfiguration>",
    "notification": b"<NotificationConfiguration><QueueConfiguration><Id>1</Id>"
    b"<Queue>arn:cumulus:sqs::hook:webhook</Queue><Event>s3:ObjectCreated:*</Event>"
    b"<Filter><S3Key><FilterRule><Name>prefix</Name><Value>a/</Value></FilterRule></S3Key></Filter>"
    b"</QueueConfiguration></NotificationConfiguration>",
    "replication": b"<ReplicationConfiguration><Role>role</Role><Rule><ID>1</ID>"
    b"<Priority>1</Priority><Status>Enabled</Status><Filter/><DeleteMarkerReplication>"
    b"<Status>Enabled</Status></DeleteMarkerReplication><Destination>"
    b"<Bucket>arn:cumulus:replication::there:copy</Bucket></Destination></Rule>"
    b"</ReplicationConfiguration>",
    "ownershipControls": b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerPreferred"
    b"</ObjectOwnership></Rule></OwnershipControls>",
    "requestPayment": b"<RequestPaymentConfiguration><Payer>Requester</Payer>"
    b"</RequestPaymentConfiguration>",
    "logging": b"<BucketLoggingStatus><LoggingEnabled><TargetBucket>bucket</TargetBucket>"
    b"<TargetPrefix>logs/</TargetPrefix><TargetObjectKeyFormat><SimplePrefix></SimplePrefix>"
    b"</TargetObjectKeyFormat></LoggingEnabled></BucketLoggingStatus>",
}
CONFIG = S3Config(targets=frozenset({"hook"}), endpoints=frozenset({"there"}))


async def versioned_bucket(app: S3App) -> None:
    """Object lock is for these alone."""
    versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert (await signed_call(app, "PUT", "/bucket")).status == 200
    assert (await signed_call(app, "PUT", "/bucket?versioning", {}, versioning)).status == 200


def test_each_setting_has_a_document_here() -> None:
    assert DOCUMENTS.keys() == SETTINGS.keys()


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_setting_is_there_from_its_put_to_its_delete(name: str) -> None:
    app = await make_app(config=CONFIG)
    await versioned_bucket(app)
    target, setting = f"/bucket?{name}", SETTINGS[name]
    before = await signed_call(app, "GET", target)
    put = await signed_call(app, "PUT", target, {}, DOCUMENTS[name])
    assert put.status == setting.put_status, put.body
    got = await signed_call(app, "GET", target)
    assert (got.status, got.headers["content-type"]) == (200, setting.content_type[1].decode())
    # What GET gave can be put again, and is the same.
    again = await signed_call(app, "PUT", target, {}, got.body)
    assert again.status == setting.put_status
    assert (await signed_call(app, "GET", target)).body == got.body
    deleted = await signed_call(app, "DELETE", target)
    assert deleted.status == (204 if setting.operation("DELETE") else 405)
    if deleted.status == 204:
        after = await signed_call(app, "GET", target)
        assert (after.status, after.code) == (before.status, before.code)


@pytest.mark.parametrize("name", SETTINGS)
async def test_what_is_no_document_changes_nothing(name: str) -> None:
    app = await make_app(config=CONFIG)
    await versioned_bucket(app)
    target = f"/bucket?{name}"
    await signed_call(app, "PUT", target, {}, DOCUMENTS[name])
    before = await signed_call(app, "GET", target)
    for garbage in (b"", b"<", b"{}", b"<Other/>", b"\xff" * 100, DOCUMENTS[name][:-3]):
        refused = await signed_call(app, "PUT", target, {}, garbage)
        assert refused.status == 400, (garbage, refused.body)
    assert (await signed_call(app, "GET", target)).body == before.body
