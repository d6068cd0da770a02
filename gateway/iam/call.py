"""What an operation of IAM gets, and the parameters that many of them share."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chain.clock import Entropy
from gateway.iam.errors import InvalidInput, LimitExceeded, MalformedPolicyDocument, ValidationError
from gateway.iam.params import Params
from gateway.iam.reply import Value
from gateway.iam.store import View
from gateway.model import Credential
from gateway.policy.document import Kind, MalformedPolicy, Policy, PolicyTooLarge, parse_policy

Result = Mapping[str, Value] | None
T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9_+=,.@-]+")
PATH = re.compile(r"(/)|(/[!-~]*/)")
ARN = re.compile(r"[!-~]+")
TEXT = re.compile(r"[\t\n\r -\u00ff]*")
DOCUMENT = re.compile(r"[\t\n\r -\U0010ffff]+")
TAG_KEY = re.compile(r"[^\W_]|[\w\s.:/=+\-@]+", re.UNICODE)
TAG_VALUE = re.compile(r"[\w\s.:/=+\-@]*", re.UNICODE)
TAGS_MAX = 50
PAGE = 100
PAGE_MAX = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on its way: it runs on a snapshot, perhaps more than once."""

    view: View
    params: Params
    caller: Credential
    now_ns: int
    entropy: Entropy

    @property
    def account(self) -> str:
        return self.view.account

    def name(self, parameter: str, most: int = 128) -> str:
        """A required name."""
        return self.params.text(parameter, NAME, most=most)

    def path(self, parameter: str = "Path", default: str = "/") -> str:
        """A path: / or /…/."""
        return self.params.optional(parameter, PATH, default=default, most=512)

    def path_prefix(self) -> str:
        """What listed paths begin with."""
        return self.params.optional("PathPrefix", re.compile(r"/[!-~]*"), default="/", most=512)

    def document(self, parameter: str, kind: Kind, most: int) -> bytes:
        """A policy, as it was given. Raises MalformedPolicyDocument, LimitExceeded."""
        text = self.params.text(parameter, DOCUMENT, most=131072)
        checked_policy(text, kind)
        if len("".join(text.split())) > most:
            raise LimitExceeded(f"Maximum policy size of {most} bytes exceeded.")
        return text.encode()

    def tags(self) -> dict[str, str]:
        """Tags that are given with something new."""
        found: dict[str, str] = {}
        for one in self.params.structures("Tags", most=TAGS_MAX):
            key, value = one.get("Key", ""), one.get("Value", "")
            fits = 0 < len(key) <= 128 and len(value) <= 256
            if not fits or not TAG_KEY.fullmatch(key) or not TAG_VALUE.fullmatch(value):
                raise ValidationError("A tag has a key of 1 to 128 characters and a value of 256.")
            if key.lower() in {other.lower() for other in found}:
                raise InvalidInput("Duplicate tag keys found. Please note that Tag keys are case "
                                   "insensitive.")  # fmt: skip
            found[key] = value
        return found

    def with_tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """`tags` and the given ones: a key in another case is the same key."""
        given = self.tags()
        lower = {key.lower() for key in given}
        merged = {key: value for key, value in tags.items() if key.lower() not in lower} | given
        if len(merged) > TAGS_MAX:
            raise LimitExceeded(f"The number of tags has reached the maximum limit of {TAGS_MAX}.")
        return merged

    def without_tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """`tags` without those of TagKeys."""
        gone = {key.lower() for key in self.params.strings("TagKeys", most=TAGS_MAX, longest=128)}
        return {key: value for key, value in tags.items() if key.lower() not in gone}

    def limit(self) -> int:
        """MaxItems."""
        return self.params.number("MaxItems", PAGE, least=1, most=PAGE_MAX)

    def marker(self) -> str:
        """Where a list goes on: what the page before said."""
        return self.params.optional("Marker", re.compile(r"[ -~]+"), most=4096)


def checked_policy(text: str, kind: Kind) -> Policy:
    """Raises MalformedPolicyDocument."""
    try:
        return parse_policy(text.encode(), kind)
    except MalformedPolicy as problem:
        raise MalformedPolicyDocument(str(problem)) from None
    except PolicyTooLarge:
        raise LimitExceeded("The policy is too long.") from None


def listed(field: str, items: Sequence[Value], following: str = "") -> dict[str, Value]:
    """A page of a list; `following` is the marker of the next one."""
    page: dict[str, Value] = {field: items, "IsTruncated": bool(following)}
    if following:
        page["Marker"] = following
    return page


def paged(call: Call, field: str, names: Sequence[str], shown: Sequence[Value]) -> dict[str, Value]:
    """A page of a list that is at hand as a whole, by names in order of lower case."""
    order = sorted(range(len(names)), key=lambda at: names[at].lower())
    after, limit = call.marker().lower(), call.limit()
    rest = [at for at in order if not after or names[at].lower() > after]
    page = rest[:limit]
    following = names[page[-1]].lower() if len(rest) > limit else ""
    return listed(field, [shown[at] for at in page], following)


def tag_list(tags: Mapping[str, str]) -> list[Value]:
    """Tags as they are shown."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
