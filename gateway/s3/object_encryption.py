"""UpdateObjectEncryption: another KMS key around what is stored, whose bytes stay where they are.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_UpdateObjectEncryption.html
"""

from gateway.errors import AccessDenied, InvalidRequest, KmsKeyNotFound
from gateway.kms import arn_account
from gateway.model import SSE_S3, Encryption
from gateway.s3 import operations as ops
from gateway.s3.attributes import version_headers
from gateway.s3.exchange import Exchange, Reply
from gateway.s3.xml_requests import DOCUMENT_MAX, child_text, parse_document

_FROM = " Only source objects encrypted with SSE-S3 or SSE-KMS are supported."
_AGAIN = (
    "Modify the request to specify SSE-KMS for the updated encryption type, and then try again."
)


def parse_object_encryption(data: bytes) -> tuple[str, bool]:
    """(a KMS key's ARN, bucket key or not) of an ObjectEncryption document.

    Raises MalformedXML, InvalidRequest.
    """
    tree = parse_document(data, "ObjectEncryption")
    kms = tree.find("SSE-KMS")
    if kms is None:
        raise InvalidRequest(
            "Requests that modify an object encryption configuration require a valid new "
            f"encryption type. Valid values are SSEKMS. {_AGAIN}"
        )
    arn = (child_text(kms, "KMSKeyArn") or "").strip()
    if not arn.startswith("arn:"):
        raise InvalidRequest(
            "Requests that modify an object's encryption type to SSE-KMS require an AWS KMS key "
            "Amazon Resource Name (ARN). Modify the request to specify a KMS key ARN, and then try "
            "again."
        )
    flag = (child_text(kms, "BucketKeyEnabled") or "false").strip().lower()
    if flag not in ("true", "false"):
        raise InvalidRequest(
            "The BucketKeyEnabled value isn't valid. Valid values are true or false. Modify the "
            "request to specify a valid value, and then try again."
        )
    return arn, flag == "true"


async def update_object_encryption(
    exchange: Exchange, operation: ops.UpdateObjectEncryption
) -> Reply:
    """Wrap the version's key under another KMS key. All else of the version stays."""
    arn, bucket_key = parse_object_encryption(await exchange.document(DOCUMENT_MAX))
    bucket = exchange.bucket
    if arn_account(arn) not in (None, bucket.owner.id):
        raise AccessDenied(
            "The AWS KMS key in the request must be owned by the same account as the bucket. "
            "Modify the request to specify a KMS key from the same account, and then try again."
        )
    try:
        key = await exchange.objects.kms.usable(bucket, arn)
    except KmsKeyNotFound:
        raise InvalidRequest(
            "Requests that modify an object's encryption type to SSE-KMS require a valid AWS KMS "
            "key Amazon Resource Name (ARN). Confirm that you have a correctly formatted KMS key "
            "ARN in your request, and then try again."
        ) from None

    def change(old: Encryption | None) -> Encryption:
        if old is not None and old.algorithm not in (SSE_S3, "aws:kms"):
            raise InvalidRequest(
                "The UpdateObjectEncryption operation doesn't support source objects with the "
                f"encryption type DSSE-KMS or SSE-C.{_FROM}"
            )
        return Encryption("aws:kms", key, bucket_key, old.context if old else "")

    version = await exchange.objects.encrypt(bucket, operation.key, operation.version_id, change)
    return Reply(200, version_headers(version))
