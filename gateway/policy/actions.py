"""IAM's names of what S3's operations do, and of what they do it to.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

# Operations whose action is not `s3:` and their own name.
_RENAMED = {
    "ListBuckets": "ListAllMyBuckets",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "RenameObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "SelectObjectContent": "GetObject",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketCors": "GetBucketCORS",
    "PutBucketCors": "PutBucketCORS",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "GetBucketReplication": "GetReplicationConfiguration",
    "PutBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    **{
        f"{verb}Bucket{noun}Configuration{plural}": f"{kind}{noun}Configuration"
        for noun in ("Analytics", "IntelligentTiering", "Inventory", "Metrics")
        for verb, plural, kind in (
            ("Get", "", "Get"), ("List", "s", "Get"), ("Put", "", "Put"), ("Delete", "", "Put")
        )
    },
}  # fmt: skip
# Actions that have another name when a version is named.
_VERSIONED = frozenset({
    "GetObject", "DeleteObject", "GetObjectAcl", "PutObjectAcl", "GetObjectTagging",
    "PutObjectTagging", "DeleteObjectTagging", "GetObjectAttributes", "GetObjectTorrent",
})  # fmt: skip
# What else is about a key.
_OF_KEYS = ("abortmultipartupload", "listmultipartuploadparts", "bypassgovernanceretention")
_RESOURCE = "arn:aws:s3:::"


def action_of(operation: str, *, versioned: bool = False) -> str:
    """The action of an operation of S3's model; `versioned`: the request names a version."""
    name = _RENAMED.get(operation, operation)
    if not versioned or name not in _VERSIONED:
        return f"s3:{name}"
    # Object and its sub-resources: GetObjectVersionAcl, but GetObjectVersion.
    head, _, tail = name.partition("Object")
    return f"s3:{head}ObjectVersion{tail}"


def resource_of(bucket: str, key: str = "") -> str:
    """The ARN of a bucket, or of an object in it."""
    return f"{_RESOURCE}{bucket}/{key}" if key else f"{_RESOURCE}{bucket}"


def concerns(resource: str, bucket: str) -> bool:
    """Whether a resource of a bucket's policy is that bucket's or of its objects."""
    if resource == "*":
        return True
    name = resource.removeprefix(_RESOURCE).partition("/")[0]
    return name == bucket or any(sign in name for sign in "*?$")


def applies_to(action: str, resource: str) -> bool:
    """Whether a resource of a policy is of the kind that a (lower-case) action is about.

    Wildcards in an action, or in a bucket's name, may be of either kind.
    """
    name = resource.removeprefix(_RESOURCE)
    if "*" in action or "?" in action or any(sign in name.partition("/")[0] for sign in "*?$"):
        return True
    about = action.removeprefix("s3:")
    of_objects = ("object" in about and "bucketobjectlock" not in about) or about in _OF_KEYS
    return of_objects is ("/" in name)
