"""The policy of a form upload: what its signer allows a browser to send. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
"""

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.s3.errors import InvalidPolicyDocument, PolicyViolated

SIZE_MAX = 1 << 62
# Fields that no condition has to mention.
_FREE = frozenset({
    "policy", "signature", "awsaccesskeyid", "x-amz-signature", "file", "submit", "bucket",
})  # fmt: skip
# Nor those that begin so: what checks the file takes nothing from the signer.
_IGNORED = ("x-ignore-", "x-amz-checksum-")
_EXPIRATION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


class Condition(msgspec.Struct, frozen=True):
    """A field must equal a value, or start with it."""

    field: str  # lower case, without `$`
    value: str
    prefix: bool

    def holds(self, given: str) -> bool:
        """Whether a field's value satisfies it."""
        return given.startswith(self.value) if self.prefix else given == self.value


class PostPolicy(msgspec.Struct, frozen=True):
    """A parsed policy."""

    expires: float  # seconds since 1970
    conditions: tuple[Condition, ...]
    least: int = 0  # bytes of the file
    most: int = SIZE_MAX


def parse_post_policy(text: str) -> PostPolicy:
    """The policy in its field's form, base64 of JSON. Raises InvalidPolicyDocument."""
    try:
        document = json.loads(b64decode(text.encode("latin-1"), validate=True))
    except (Base64Error, ValueError, RecursionError):
        raise InvalidPolicyDocument("Invalid Policy: Invalid JSON.") from None
    if not isinstance(document, dict):
        raise InvalidPolicyDocument("Invalid Policy: Invalid JSON.")
    expiration, conditions = document.get("expiration"), document.get("conditions")
    if expiration is None:
        raise InvalidPolicyDocument("Invalid Policy: Policy missing expiration.")
    if not isinstance(expiration, str) or not _EXPIRATION.fullmatch(expiration):
        raise InvalidPolicyDocument(f"Invalid Policy: Invalid 'expiration' value: {expiration!r}")
    if not isinstance(conditions, list):
        raise InvalidPolicyDocument("Invalid Policy: Policy missing conditions.")
    found: list[Condition] = []
    least, most = 0, SIZE_MAX
    for entry in conditions:
        if _is_range(entry):
            least, most = _range(entry)
        else:
            found.extend(_conditions(entry))
    return PostPolicy(_seconds(expiration), tuple(found), least, most)


def _seconds(text: str) -> float:
    try:
        # Python 3.11 reads fractions of any length.
        return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InvalidPolicyDocument(
            f"Invalid Policy: Invalid 'expiration' value: {text!r}"
        ) from None


def _is_range(entry: Any) -> bool:
    name = entry[0] if isinstance(entry, list) and entry else None
    return isinstance(name, str) and name.lower() == "content-length-range"


def _range(entry: list[Any]) -> tuple[int, int]:
    numbers = [int(one) for one in entry[1:] if re.fullmatch(r"\d{1,18}", str(one))]
    if len(entry) != 3 or len(numbers) != 2:
        raise InvalidPolicyDocument("Invalid Policy: Invalid content-length-range.")
    return numbers[0], numbers[1]


def _conditions(entry: Any) -> list[Condition]:
    if isinstance(entry, dict) and entry:
        if all(isinstance(value, str) for value in entry.values()):
            return [Condition(n.lower(), value, prefix=False) for n, value in entry.items()]
    elif isinstance(entry, list) and len(entry) == 3 and all(isinstance(v, str) for v in entry):
        operator, field, value = entry
        if operator.lower() in ("eq", "starts-with") and field.startswith("$"):
            prefix = operator.lower() == "starts-with"
            return [Condition(field[1:].lower(), value, prefix)]
    raise InvalidPolicyDocument("Invalid Policy: Invalid condition.")


def check_post_policy(policy: PostPolicy, fields: Mapping[str, str], now: float) -> None:
    """Whether these fields (lower-case names; `bucket` always among them) are what was signed.

    Raises PolicyViolated.
    """
    if now >= policy.expires:
        raise PolicyViolated("Invalid according to Policy: Policy expired.")
    named = set()
    for condition in policy.conditions:
        named.add(condition.field)
        if not condition.holds(fields.get(condition.field, "")):
            verb = "starts-with" if condition.prefix else "eq"
            raise PolicyViolated(
                "Invalid according to Policy: Policy Condition failed: "
                f'["{verb}", "${condition.field}", "{condition.value}"]'
            )
    extra = [n for n in fields if n not in named | _FREE and not n.startswith(_IGNORED)]
    if extra:
        raise PolicyViolated(
            f"Invalid according to Policy: Extra input fields: {', '.join(sorted(extra))}"
        )
