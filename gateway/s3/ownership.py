"""Whose the objects of a bucket are, and who pays for requests to it: two settings.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketRequestPayment.html
"""

from gateway.errors import InvalidArgument
from gateway.model import ACCESS_ACL, ACCESS_OWNERSHIP
from gateway.s3 import xml
from gateway.s3.acls import bucket_acl, from_headers
from gateway.s3.errors import InvalidBucketAclWithObjectOwnership, MalformedXML
from gateway.s3.exchange import Exchange
from gateway.s3.grants import Ownership, pack, reaches_others
from gateway.s3.permission import rules_of
from gateway.s3.xml_requests import child_text, parse_document

_HEADER = "x-amz-object-ownership"
_PAYERS = ("BucketOwner", "Requester")
NOBODY_ELSE_PAYS = xml.document("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>")


def parse_ownership(data: bytes) -> bytes:
    """The one rule's word. Raises MalformedXML."""
    rules = parse_document(data, "OwnershipControls").findall("Rule")
    word = (child_text(rules[0], "ObjectOwnership") or "").strip() if len(rules) == 1 else ""
    if word not in set(Ownership):
        raise MalformedXML
    return word.encode()


def ownership_document(stored: bytes) -> bytes:
    """The inverse of `parse_ownership`."""
    rule = f"<Rule><ObjectOwnership>{stored.decode()}</ObjectOwnership></Rule>"
    return xml.document("OwnershipControls", rule)


def check_ownership(exchange: Exchange, stored: bytes) -> None:
    """Raises InvalidBucketAclWithObjectOwnership where lists are switched off and grant much."""
    bucket = exchange.bucket
    acl = bucket_acl(bucket, rules_of(exchange.objects, bucket))
    if stored.decode() == Ownership.ENFORCED and reaches_others(acl, bucket.owner.id):
        raise InvalidBucketAclWithObjectOwnership


def parse_payment(data: bytes) -> bytes:
    """Who pays. Raises MalformedXML."""
    tree = parse_document(data, "RequestPaymentConfiguration")
    payer = (child_text(tree, "Payer") or "").strip()
    if payer not in _PAYERS:
        raise MalformedXML
    return payer.encode()


def payment_document(stored: bytes) -> bytes:
    """The inverse of `parse_payment`."""
    return xml.document("RequestPaymentConfiguration", f"<Payer>{stored.decode()}</Payer>")


def created_settings(exchange: Exchange) -> dict[str, bytes]:
    """The settings that a new bucket's headers give it.

    Raises InvalidArgument, InvalidBucketAclWithObjectOwnership, and what `from_headers` raises.
    """
    owner, settings = exchange.account.id, {}
    word = exchange.request.headers.get(_HEADER)
    if word is not None:
        if word not in set(Ownership):
            raise InvalidArgument(
                f"Invalid {_HEADER} header: {word[:64]}",
                ArgumentName=_HEADER,
                ArgumentValue=word[:64],
            )
        settings[ACCESS_OWNERSHIP] = word.encode()
    acl = from_headers(exchange, owner, owner, of_bucket=True)
    if acl is not None and (packed := pack(acl, owner)):
        if word == Ownership.ENFORCED and reaches_others(acl, owner):
            raise InvalidBucketAclWithObjectOwnership
        settings[ACCESS_ACL] = packed
    return settings
