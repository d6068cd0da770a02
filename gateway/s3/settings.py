"""A bucket's settings: documents that are put, got and deleted under a sub-resource.

A setting is one line of SETTINGS; its module has the two forms of its document, what it means is
told by whoever acts on it. Kept in one row of the catalog that goes with the bucket; the bucket's
own row names those that it has.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec

from gateway.errors import StoreError
from gateway.model import OBJECT_LOCK
from gateway.retention import LockSetting
from gateway.s3 import (
    bucket_encryption,
    bucket_logging,
    cors,
    errors,
    expiry,
    lifecycle,
    lock_documents,
    notification,
    ownership,
    policies,
    replication,
    tags,
    website,
    xml,
)
from gateway.s3 import operations as ops
from gateway.s3.access import PublicAccessBlock
from gateway.s3.attributes import Headers
from gateway.s3.exchange import XML_TYPE, Exchange, Reply
from gateway.s3.xml_requests import DOCUMENT_MAX

T = TypeVar("T")


class Form(msgspec.Struct, frozen=True):
    """A setting's two forms."""

    # A document as it is stored; None when it configures nothing. Raises StoreError
    parse: Callable[[bytes], bytes | None]
    document: Callable[[bytes], bytes]  # the inverse


def _no_headers(_: bytes) -> Headers:
    return []


class Setting(msgspec.Struct, frozen=True):
    """How one is served. The sub-resource's name is its name in the catalog, too."""

    noun: str  # of its operations: GetBucketCors, PutBucketCors, DeleteBucketCors
    form: Form
    missing: type[StoreError] | bytes  # what GET answers where there is none
    # Raises what forbids this setting for this bucket and caller, whatever its form.
    check: Callable[[Exchange, bytes], None] | None = None
    # What the request's headers change in it, and what replies to PUT and GET say of it.
    complete: Callable[[Mapping[str, str], bytes], bytes] | None = None
    headers: Callable[[bytes], Headers] = _no_headers
    put_status: int = 200
    content_type: tuple[bytes, bytes] = XML_TYPE
    delete: str | None = None  # DELETE's operation if it is not "Delete" and the noun; "": none

    def operation(self, method: str) -> str:
        """The name in S3's model of GET, PUT or DELETE; "" if there is none."""
        if method == "DELETE" and self.delete is not None:
            return self.delete
        return method.capitalize() + self.noun


def _packed(parse: Callable[[bytes], T], document: Callable[[T], bytes], kind: Any) -> Form:
    """Of a setting that is kept as MessagePack of `kind`."""
    decode = msgspec.msgpack.Decoder(kind).decode
    return Form(
        lambda data: msgspec.msgpack.encode(parse(data)),
        lambda stored: document(decode(stored)),
    )


SETTINGS: dict[str, Setting] = {
    "cors": Setting(
        noun="BucketCors",
        form=_packed(cors.parse_cors, cors.cors_document, tuple[cors.CorsRule, ...]),
        missing=errors.NoSuchCORSConfiguration,
    ),
    "tagging": Setting(
        noun="BucketTagging",
        form=_packed(
            partial(tags.parse_tags, most=tags.BUCKET_TAGS_MAX), tags.tags_document, dict[str, str]
        ),
        missing=errors.NoSuchTagSet,
        put_status=204,
    ),
    bucket_encryption.SETTING: Setting(
        noun="BucketEncryption",
        form=_packed(
            bucket_encryption.parse_encryption,
            bucket_encryption.encryption_document,
            bucket_encryption.BucketEncryption,
        ),
        missing=errors.EncryptionConfigurationNotFound,
    ),
    OBJECT_LOCK: Setting(  # ObjectService judges whether the bucket may have it
        noun="ObjectLockConfiguration",
        form=_packed(lock_documents.parse_setting, lock_documents.setting_document, LockSetting),
        missing=errors.ObjectLockConfigurationNotFound,
        delete="",
    ),
    "policy": Setting(
        noun="BucketPolicy",
        form=Form(policies.checked_policy, bytes),  # as it was given
        missing=errors.NoSuchBucketPolicy,
        check=policies.check_policy,
        put_status=204,
        content_type=(b"content-type", b"application/json"),
    ),
    "website": Setting(
        noun="BucketWebsite",
        form=_packed(website.parse_website, website.website_document, website.Website),
        missing=errors.NoSuchWebsiteConfiguration,
    ),
    "publicAccessBlock": Setting(
        noun="PublicAccessBlock",
        form=_packed(policies.parse_block, policies.block_document, PublicAccessBlock),
        missing=errors.NoSuchPublicAccessBlock,
    ),
    "ownershipControls": Setting(
        noun="BucketOwnershipControls",
        form=Form(ownership.parse_ownership, ownership.ownership_document),
        missing=errors.OwnershipControlsNotFound,
        check=ownership.check_ownership,
    ),
    "requestPayment": Setting(
        noun="BucketRequestPayment",
        form=Form(ownership.parse_payment, ownership.payment_document),
        missing=ownership.NOBODY_ELSE_PAYS,
        delete="",
    ),
    "lifecycle": Setting(
        noun="BucketLifecycleConfiguration",
        form=Form(lifecycle.parse_lifecycle, lifecycle.lifecycle_document),
        missing=errors.NoSuchLifecycleConfiguration,
        complete=expiry.with_minimum,
        headers=expiry.minimum_headers,
        delete="DeleteBucketLifecycle",
    ),
    "notification": Setting(
        noun="BucketNotificationConfiguration",
        form=Form(notification.parse_notification, notification.notification_document),
        missing=xml.document(notification.ROOT, ""),
        check=notification.check_targets,
        delete="",
    ),
    "logging": Setting(
        noun="BucketLogging",
        form=Form(bucket_logging.parse_logging, bucket_logging.logging_document),
        missing=xml.document(bucket_logging.ROOT, ""),
        check=bucket_logging.check_target,
        delete="",
    ),
    "replication": Setting(
        noun="BucketReplication",
        form=Form(replication.parse_replication, replication.replication_document),
        missing=errors.ReplicationConfigurationNotFound,
        check=replication.check_replication,
    ),
}


async def put_setting(exchange: Exchange, operation: ops.PutSetting) -> Reply:
    """Replace it."""
    setting = SETTINGS[operation.parameter]
    stored = setting.form.parse(await exchange.document(DOCUMENT_MAX))
    if setting.complete is not None and stored is not None:
        stored = setting.complete(exchange.request.headers, stored)
    if setting.check is not None and stored is not None:
        setting.check(exchange, stored)
    await exchange.objects.set_setting(exchange.bucket, operation.parameter, stored)
    return Reply(setting.put_status, [] if stored is None else setting.headers(stored))


async def get_setting(exchange: Exchange, operation: ops.GetSetting) -> Reply:
    """The document, or what the sub-resource answers without one."""
    setting = SETTINGS[operation.parameter]
    stored = exchange.objects.setting(exchange.bucket, operation.parameter)
    if stored is not None:
        headers = [setting.content_type, *setting.headers(stored)]
        return Reply(200, headers, setting.form.document(stored))
    if isinstance(setting.missing, bytes):
        return Reply(200, [setting.content_type], setting.missing)
    raise setting.missing(BucketName=operation.bucket)


async def delete_setting(exchange: Exchange, operation: ops.DeleteSetting) -> Reply:
    """204 whether or not there was one."""
    await exchange.objects.set_setting(exchange.bucket, operation.parameter, None)
    return Reply(204)
