"""Handlers of bucket policies and of the public access block.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutPublicAccessBlock.html
"""

import msgspec

from gateway.errors import AccessDenied
from gateway.model import ACCESS_BLOCK, ACCESS_POLICY, Bucket
from gateway.policy import document
from gateway.policy.actions import applies_to, concerns
from gateway.policy.document import Policy, Statement
from gateway.policy.evaluation import is_public
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import PublicAccessBlock
from gateway.s3.errors import (
    MalformedPolicy,
    MalformedXML,
    NoSuchBucketPolicy,
    NoSuchPublicAccessBlock,
    PolicyTooLarge,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.permission import rules_of
from gateway.s3.xml_requests import DOCUMENT_MAX, child_text, parse_document

_BLOCK = "PublicAccessBlockConfiguration"
_FIELDS = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}


def checked_policy(data: bytes, bucket: Bucket) -> Policy:
    """A policy that is about this bucket. Raises MalformedPolicy, PolicyTooLarge."""
    try:
        policy = document.parse_policy(data)
    except document.PolicyTooLarge:
        raise PolicyTooLarge from None
    except document.MalformedPolicy as problem:
        raise MalformedPolicy(str(problem)) from None
    resources = [one for statement in policy.statements for one in statement.resources]
    if not all(concerns(one, bucket.name) for one in resources):
        raise MalformedPolicy("Policy has invalid resource")
    if not all(_fits_together(statement) for statement in policy.statements):
        raise MalformedPolicy("Action does not apply to any resource(s) in statement")
    return policy


def _fits_together(statement: Statement) -> bool:
    if statement.not_actions or statement.not_resources:
        return True
    return all(
        any(applies_to(action, resource) for resource in statement.resources)
        for action in statement.actions
    )


async def put_policy(exchange: Exchange, operation: ops.PutBucketPolicy) -> Reply:
    """Replace the policy."""
    del operation
    data = await exchange.document(DOCUMENT_MAX)
    policy = checked_policy(data, exchange.bucket)
    rules = rules_of(exchange.objects, exchange.bucket)
    if rules is not None and rules.block.block_public_policy and is_public(policy):
        raise AccessDenied
    await exchange.objects.set_setting(exchange.bucket, ACCESS_POLICY, data)
    return Reply(204)


async def get_policy(exchange: Exchange, operation: ops.GetBucketPolicy) -> Reply:
    """The document, byte for byte."""
    data = exchange.objects.setting(exchange.bucket, ACCESS_POLICY)
    if data is None:
        raise NoSuchBucketPolicy(BucketName=operation.bucket)
    return Reply(200, [(b"content-type", b"application/json")], data)


async def delete_policy(exchange: Exchange, operation: ops.DeleteBucketPolicy) -> Reply:
    """204 whether or not there was one."""
    del operation
    await exchange.objects.set_setting(exchange.bucket, ACCESS_POLICY, None)
    return Reply(204)


async def get_policy_status(exchange: Exchange, operation: ops.GetBucketPolicyStatus) -> Reply:
    """Whether its ACL or its policy is public."""
    del operation
    bucket = exchange.bucket
    rules = rules_of(exchange.objects, bucket)
    public = bucket.public and not (rules is not None and rules.block.ignore_public_acls)
    if rules is not None and rules.policy is not None:
        public = public or is_public(rules.policy)
    flag = "true" if public else "false"  # botocore takes TRUE, as AWS documents it, for false
    return xml_reply(xml.document("PolicyStatus", f"<IsPublic>{flag}</IsPublic>"))


# ------------------------------------------------------------------ public access block
def parse_block(data: bytes) -> PublicAccessBlock:
    """The configuration; what is not named is false. Raises MalformedXML."""
    tree = parse_document(data, _BLOCK)
    values = {}
    for element, field in _FIELDS.items():
        text = (child_text(tree, element) or "false").strip().lower()
        if text not in ("true", "false"):
            raise MalformedXML
        values[field] = text == "true"
    return PublicAccessBlock(**values)


async def put_block(exchange: Exchange, operation: ops.PutPublicAccessBlock) -> Reply:
    """Replace the configuration."""
    del operation
    block = parse_block(await exchange.document(DOCUMENT_MAX))
    await exchange.objects.set_setting(exchange.bucket, ACCESS_BLOCK, msgspec.msgpack.encode(block))
    return Reply(200)


async def get_block(exchange: Exchange, operation: ops.GetPublicAccessBlock) -> Reply:
    """All four switches."""
    data = exchange.objects.setting(exchange.bucket, ACCESS_BLOCK)
    if data is None:
        raise NoSuchPublicAccessBlock(BucketName=operation.bucket)
    block = msgspec.msgpack.decode(data, type=PublicAccessBlock)
    rows = "".join(
        f"<{element}>{str(getattr(block, field)).lower()}</{element}>"
        for element, field in _FIELDS.items()
    )
    return xml_reply(xml.document(_BLOCK, rows))


async def delete_block(exchange: Exchange, operation: ops.DeletePublicAccessBlock) -> Reply:
    """204 whether or not there was one."""
    del operation
    await exchange.objects.set_setting(exchange.bucket, ACCESS_BLOCK, None)
    return Reply(204)
