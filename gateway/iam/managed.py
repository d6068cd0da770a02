"""The policies of AWS's own that S3 and IAM users attach by name (arn:aws:iam::aws:policy/…)."""

import json
from typing import Any

PREFIX = "arn:aws:iam::aws:policy/"


def _document(*statements: dict[str, Any]) -> bytes:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}).encode()


def _allow(*actions: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}


_READ_IAM = (
    "iam:GenerateCredentialReport", "iam:GenerateServiceLastAccessedDetails", "iam:Get*",
    "iam:List*", "iam:SimulateCustomPolicy", "iam:SimulatePrincipalPolicy",
)  # fmt: skip

MANAGED: dict[str, bytes] = {
    f"{PREFIX}AdministratorAccess": _document(_allow("*")),
    f"{PREFIX}AmazonS3FullAccess": _document(_allow("s3:*", "s3-object-lambda:*")),
    f"{PREFIX}AmazonS3ReadOnlyAccess": _document(
        _allow("s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*",
               "s3-object-lambda:List*")
    ),
    f"{PREFIX}IAMFullAccess": _document(_allow("iam:*", "organizations:DescribeAccount")),
    f"{PREFIX}IAMReadOnlyAccess": _document(_allow(*_READ_IAM)),
    f"{PREFIX}PowerUserAccess": _document(
        {"Effect": "Allow", "NotAction": ["iam:*", "organizations:*", "account:*"],
         "Resource": "*"},
        _allow("iam:ListRoles", "iam:GetRole"),
    ),
    f"{PREFIX}AWSDenyAll": _document({"Effect": "Deny", "Action": ["*"], "Resource": "*"}),
}  # fmt: skip
