"""The table of handlers: operation -> what it does to the bucket, and who serves it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.s3 import (
    acls,
    buckets,
    cors,
    deleting,
    forms,
    listing,
    multipart,
    numbered,
    object_encryption,
    object_lock,
    policies,
    reading,
    settings,
    tagging,
    versioning,
    writing,
)
from gateway.s3 import operations as ops
from gateway.s3.access import Action
from gateway.s3.exchange import Exchange, Reply

Op = TypeVar("Op")


@dataclass(frozen=True, slots=True)
class Handler:
    """`serve` is only ever called with the operation type that it is registered for."""

    action: Action
    serve: Callable[[Exchange, Any], Awaitable[Reply]]


HANDLERS: dict[type, Handler] = {}


def _on(
    operation: type[Op], action: Action, serve: Callable[[Exchange, Op], Awaitable[Reply]]
) -> None:
    HANDLERS[operation] = Handler(action, serve)


_on(ops.GetObject, Action.READ, reading.get_object)
_on(ops.PutObject, Action.WRITE, writing.put_object)
_on(ops.PostObject, Action.WRITE, forms.post_object)
_on(ops.RenameObject, Action.WRITE, writing.rename_object)
_on(ops.DeleteObject, Action.WRITE, deleting.delete_object)
_on(ops.CopyObject, Action.WRITE, writing.copy_object)
_on(ops.DeleteObjects, Action.WRITE, deleting.delete_objects)
_on(ops.GetObjectAttributes, Action.READ, reading.get_attributes)
_on(ops.ListObjects, Action.LIST, listing.list_objects)
_on(ops.ListObjectsV2, Action.LIST, listing.list_objects_v2)
_on(ops.ListObjectVersions, Action.LIST, versioning.list_versions)
_on(ops.ListMultipartUploads, Action.LIST, listing.list_uploads)
_on(ops.CreateMultipartUpload, Action.WRITE, multipart.create)
_on(ops.UploadPart, Action.WRITE, multipart.upload_part)
_on(ops.UploadPartCopy, Action.WRITE, multipart.upload_part_copy)
_on(ops.ListParts, Action.UPLOAD, multipart.list_parts)
_on(ops.CompleteMultipartUpload, Action.WRITE, multipart.complete)
_on(ops.AbortMultipartUpload, Action.UPLOAD, multipart.abort)
_on(ops.ListBuckets, Action.SERVICE, buckets.list_buckets)
_on(ops.CreateBucket, Action.SERVICE, buckets.create_bucket)
_on(ops.HeadBucket, Action.LIST, buckets.head_bucket)
_on(ops.DeleteBucket, Action.CONFIGURE, buckets.delete_bucket)
_on(ops.GetBucketLocation, Action.LIST, buckets.get_location)
_on(ops.GetBucketVersioning, Action.CONFIGURE, versioning.get_versioning)
_on(ops.PutBucketVersioning, Action.CONFIGURE, versioning.put_versioning)
_on(ops.GetBucketAcl, Action.READ_ACL, acls.get_bucket_acl)
_on(ops.PutBucketAcl, Action.WRITE_ACL, acls.put_bucket_acl)
_on(ops.GetObjectAcl, Action.READ_OBJECT_ACL, acls.get_object_acl)
_on(ops.PutObjectAcl, Action.WRITE_OBJECT_ACL, acls.put_object_acl)
_on(ops.GetObjectTagging, Action.CONFIGURE, tagging.get_object_tagging)
_on(ops.PutObjectTagging, Action.CONFIGURE, tagging.put_object_tagging)
_on(ops.DeleteObjectTagging, Action.CONFIGURE, tagging.delete_object_tagging)
_on(ops.UpdateObjectEncryption, Action.CONFIGURE, object_encryption.update_object_encryption)
_on(ops.PutSetting, Action.CONFIGURE, settings.put_setting)
_on(ops.GetSetting, Action.CONFIGURE, settings.get_setting)
_on(ops.DeleteSetting, Action.CONFIGURE, settings.delete_setting)
_on(ops.PutConfiguration, Action.CONFIGURE, numbered.put_configuration)
_on(ops.GetConfiguration, Action.CONFIGURE, numbered.get_configuration)
_on(ops.DeleteConfiguration, Action.CONFIGURE, numbered.delete_configuration)
_on(ops.ListConfigurations, Action.CONFIGURE, numbered.list_configurations)
_on(ops.GetBucketPolicyStatus, Action.CONFIGURE, policies.get_policy_status)
_on(ops.Preflight, Action.PREFLIGHT, cors.answer_preflight)
_on(ops.GetObjectRetention, Action.CONFIGURE, object_lock.get_retention)
_on(ops.PutObjectRetention, Action.CONFIGURE, object_lock.put_retention)
_on(ops.GetObjectLegalHold, Action.CONFIGURE, object_lock.get_legal_hold)
_on(ops.PutObjectLegalHold, Action.CONFIGURE, object_lock.put_legal_hold)
_on(ops.Fixed, Action.CONFIGURE, buckets.fixed)
