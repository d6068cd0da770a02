"""Bucket policies and the public access block: their documents and what they are checked for.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutPublicAccessBlock.html
"""

from gateway.errors import AccessDenied
from gateway.policy import document
from gateway.policy.actions import applies_to, concerns
from gateway.policy.document import Statement
from gateway.policy.evaluation import is_public
from gateway.s3 import operations as ops
from gateway.s3 import xml
from gateway.s3.access import PublicAccessBlock
from gateway.s3.acls import bucket_acl
from gateway.s3.errors import (
    MalformedPolicy,
    MalformedXML,
    PolicyTooLarge,
)
from gateway.s3.exchange import Exchange, Reply, xml_reply
from gateway.s3.grants import is_public_acl
from gateway.s3.permission import rules_of
from gateway.s3.xml_requests import child_text, parse_document

_BLOCK = "PublicAccessBlockConfiguration"
_FIELDS = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}


def checked_policy(data: bytes) -> bytes:
    """A policy's document when it is one. Raises MalformedPolicy, PolicyTooLarge."""
    try:
        policy = document.parse_policy(data)
    except document.PolicyTooLarge:
        raise PolicyTooLarge from None
    except document.MalformedPolicy as problem:
        raise MalformedPolicy(str(problem)) from None
    if not all(_fits_together(statement) for statement in policy.statements):
        raise MalformedPolicy("Action does not apply to any resource(s) in statement")
    return data


def _fits_together(statement: Statement) -> bool:
    if statement.not_actions or statement.not_resources:
        return True
    return all(
        any(applies_to(action, resource) for resource in statement.resources)
        for action in statement.actions
    )


def check_policy(exchange: Exchange, data: bytes) -> None:
    """Raises MalformedPolicy for resources elsewhere, AccessDenied where none may be public."""
    bucket = exchange.bucket
    policy = document.parse_policy(data)
    resources = [one for statement in policy.statements for one in statement.resources]
    if not all(concerns(one, bucket.name) for one in resources):
        raise MalformedPolicy("Policy has invalid resource")
    rules = rules_of(exchange.objects, bucket)
    if rules is not None and rules.block.block_public_policy and is_public(policy):
        raise AccessDenied


async def get_policy_status(exchange: Exchange, operation: ops.GetBucketPolicyStatus) -> Reply:
    """Whether its ACL or its policy is public."""
    del operation
    bucket = exchange.bucket
    rules = rules_of(exchange.objects, bucket)
    public = bucket.public or (rules is not None and is_public_acl(bucket_acl(bucket, rules)))
    public = public and not (rules is not None and rules.block.ignore_public_acls)
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


def block_document(block: PublicAccessBlock) -> bytes:
    """All four switches: the inverse of `parse_block`."""
    rows = "".join(
        f"<{element}>{str(getattr(block, field)).lower()}</{element}>"
        for element, field in _FIELDS.items()
    )
    return xml.document(_BLOCK, rows)
