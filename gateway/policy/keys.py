"""Condition keys that a policy may name.

An unknown key is refused: a condition that can never be true is a hole in a Deny, and one that is
always true is a hole in an Allow. Keys of things that this store has not (a VPC, MFA) are known and
never have a value, as on AWS for a request without them. s3:TlsVersion, s3:signatureAge and
aws:RequestedRegion are not here: the front end does not know them yet.
Policies of identities speak of other services too: their keys are taken as they are.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

_AWS = frozenset(
    """
    CurrentTime EpochTime MultiFactorAuthAge MultiFactorAuthPresent PrincipalAccount PrincipalArn
    PrincipalOrgID PrincipalOrgPaths PrincipalType Referer SecureTransport
    SourceAccount SourceArn SourceIdentity SourceIp SourceOrgID SourceOwner SourceVpc SourceVpce
    TokenIssueTime UserAgent UserId UserName ViaAWSService VpcSourceIp ResourceAccount
    """.lower().split()
)
_S3 = frozenset(
    """
    authType delimiter ExistingObjectTag/ if-match if-none-match max-keys
    object-lock-legal-hold object-lock-mode object-lock-remaining-retention-days
    object-lock-retain-until-date prefix RequestObjectTag/
    RequestObjectTagKeys ResourceAccount signatureversion VersionId x-amz-acl
    x-amz-content-sha256 x-amz-copy-source x-amz-grant-full-control x-amz-grant-read
    x-amz-grant-read-acp x-amz-grant-write x-amz-grant-write-acp x-amz-metadata-directive
    x-amz-server-side-encryption x-amz-server-side-encryption-aws-kms-key-id
    x-amz-server-side-encryption-customer-algorithm x-amz-storage-class
    x-amz-website-redirect-location
    """.lower().split()
)
_TAGGED = ("principaltag/", "requesttag/", "resourcetag/")


def is_key(name: str, *, others: bool = False) -> bool:
    """Whether a lower-case name is a condition key of S3's or of every service; or of `others`."""
    service, _, key = name.partition(":")
    if others and service not in ("s3", "aws"):
        return bool(service and key)
    head, slash, tag = key.partition("/")
    if slash:
        known = _S3 if service == "s3" else _TAGGED if service == "aws" else ()
        return head + slash in known and bool(tag)
    return key in (_S3 if service == "s3" else _AWS if service == "aws" else ())
