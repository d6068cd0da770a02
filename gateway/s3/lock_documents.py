"""Documents and headers of object lock. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

import msgspec

from gateway.errors import InvalidArgument
from gateway.retention import MODES, LockSetting
from gateway.s3 import xml
from gateway.s3.errors import InvalidRetentionPeriod, MalformedXML
from gateway.s3.xml_requests import child_text, parse_document

PREFIX = "x-amz-object-lock-"
MODE, UNTIL, HOLD = f"{PREFIX}mode", f"{PREFIX}retain-until-date", f"{PREFIX}legal-hold"
_LOCK = (MODE, UNTIL, HOLD)
BYPASS = "x-amz-bypass-governance-retention"
AT_CREATION = "x-amz-bucket-object-lock-enabled"
DAYS_MAX, YEARS_MAX = 36_500, 100


# ------------------------------------------------------------------ the bucket's setting
def parse_setting(data: bytes) -> LockSetting:
    """An ObjectLockConfiguration. Raises MalformedXML, InvalidRetentionPeriod."""
    tree = parse_document(data, "ObjectLockConfiguration")
    if (child_text(tree, "ObjectLockEnabled") or "").strip() != "Enabled":
        raise MalformedXML
    rule = tree.find("Rule")
    if rule is None:
        return LockSetting()
    default = rule.find("DefaultRetention")
    if default is None:
        raise MalformedXML
    mode = (child_text(default, "Mode") or "").strip()
    days, years = _period(default, "Days", DAYS_MAX), _period(default, "Years", YEARS_MAX)
    if mode not in MODES or bool(days) is bool(years):
        raise MalformedXML
    return LockSetting(mode, days, years)


def _period(default: Element, name: str, most: int) -> int:
    """0 where there is none."""
    text = child_text(default, name)
    if text is None:
        return 0
    try:
        period = int(text.strip()) if len(text) <= 20 else most + 1
    except ValueError:
        raise MalformedXML from None
    if period < 1:
        raise InvalidRetentionPeriod("Default retention period must be a positive integer value.")
    if period > most:
        raise InvalidRetentionPeriod(f"Default retention period is too large: {name} > {most}.")
    return period


def setting_document(setting: LockSetting) -> bytes:
    """The inverse."""
    body = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    if setting.mode:
        period = f"<Days>{setting.days}</Days>" if setting.days else (
            f"<Years>{setting.years}</Years>"
        )  # fmt: skip
        default = f"<Mode>{setting.mode}</Mode>{period}"
        body += f"<Rule><DefaultRetention>{default}</DefaultRetention></Rule>"
    return xml.document("ObjectLockConfiguration", body)


def asked_at_creation(headers: Mapping[str, str]) -> bytes | None:
    """The setting of a bucket that is made with object lock. Raises InvalidArgument."""
    text = headers.get(AT_CREATION, "false").lower()
    if text not in ("true", "false"):
        raise InvalidArgument(ArgumentName=AT_CREATION, ArgumentValue=text)
    return msgspec.msgpack.encode(LockSetting()) if text == "true" else None


# ------------------------------------------------------------------ times
def retained_until(text: str) -> int:
    """ns of an ISO 8601 time with its zone. Raises InvalidArgument."""
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        when = None
    if when is None or "T" not in text or when.tzinfo is None or not 1970 < when.year < 2200:
        raise InvalidArgument(
            "The retain until date must be provided in ISO 8601 format",
            ArgumentName=UNTIL,
            ArgumentValue=text,
        )
    return int(when.astimezone(UTC).timestamp() * 1000) * 1_000_000


def context_of(headers: Mapping[str, str], now: float) -> dict[str, str]:
    """Condition keys of policies about the lock that an upload asks for. Raises InvalidArgument."""
    given = {
        f"s3:{name.removeprefix('x-amz-')}": headers[name] for name in _LOCK if name in headers
    }
    if UNTIL in headers:
        days = (retained_until(headers[UNTIL]) / 1e9 - now) // 86_400
        given["s3:object-lock-remaining-retention-days"] = str(int(days))
    return given
