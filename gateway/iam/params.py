"""The query protocol's parameters: bytes from outside in, checked values out. Pure.

`Action=CreateUser&UserName=ann&Tags.member.1.Key=team&…`: names with `.member.N` make lists, more
names behind the number make structures.
https://docs.aws.amazon.com/IAM/latest/APIReference/CommonParameters.html
"""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from gateway.iam.errors import MalformedQuery, ValidationError

FORM_MAX = 512 << 10  # bytes: a policy of 20 KiB, percent-encoded, and room for much else
FIELDS_MAX = 1024
LIST_MAX = 256  # elements
_NUMBER = re.compile(r"[0-9]{1,9}")
_MEMBER = re.compile(r"(?:\.member)?\.([0-9]{1,4})(?:\.(.+))?", re.DOTALL)


def parse_form(data: bytes) -> dict[str, str]:
    """Names and values of application/x-www-form-urlencoded. Raises MalformedQuery."""
    if len(data) > FORM_MAX:
        raise MalformedQuery("The request is too long.")
    try:
        text = data.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise MalformedQuery from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise MalformedQuery("A parameter is given twice.")
    return form


class Params:
    """One request's parameters, read by name; what is wrong raises ValidationError."""

    def __init__(self, form: Mapping[str, str]) -> None:
        self._form = form

    def has(self, name: str) -> bool:
        """Whether it was given."""
        return name in self._form

    def text(self, name: str, pattern: re.Pattern[str], *, least: int = 1, most: int) -> str:
        """A required text."""
        value = self._form.get(name)
        if value is None:
            raise _invalid("null", name, "Member must not be null")
        if len(value) < least:
            raise _invalid(value, name, f"Member must have length greater than or equal to {least}")
        if len(value) > most:
            raise _invalid(value, name, f"Member must have length less than or equal to {most}")
        if not pattern.fullmatch(value):
            raise _invalid(
                value, name,
                f"Member must satisfy regular expression pattern: {pattern.pattern}",
            )  # fmt: skip
        return value

    def optional(
        self, name: str, pattern: re.Pattern[str], *, default: str = "", least: int = 1, most: int
    ) -> str:
        """A text that may be left out."""
        if name not in self._form:
            return default
        return self.text(name, pattern, least=least, most=most)

    def choice(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of some words."""
        value = self._form.get(name, default)
        if value is None or value not in allowed:
            words = ", ".join(allowed)
            raise _invalid(value or "null", name, f"Member must satisfy enum value set: [{words}]")
        return value

    def number(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number."""
        value = self._form.get(name)
        if value is None:
            return default
        if not value.isascii() or not _NUMBER.fullmatch(value):
            raise _invalid(value, name, "Member must be an integer")
        if int(value) < least:
            raise _invalid(value, name, f"Member must have value greater than or equal to {least}")
        if int(value) > most:
            raise _invalid(value, name, f"Member must have value less than or equal to {most}")
        return int(value)

    def structures(self, name: str, *, most: int = LIST_MAX) -> list[dict[str, str]]:
        """The elements of a list in order; a plain element is under ""."""
        found: dict[int, dict[str, str]] = {}
        for given, value in self._form.items():
            if not given.startswith(name):
                continue
            match = _MEMBER.fullmatch(given, len(name))
            if match is not None:
                found.setdefault(int(match[1]), {})[match[2] or ""] = value
        if len(found) > most:
            raise _invalid(
                f"{len(found)} elements", name,
                f"Member must have length less than or equal to {most}",
            )  # fmt: skip
        return [found[number] for number in sorted(found)]

    def strings(self, name: str, *, most: int = LIST_MAX, longest: int = 255) -> list[str]:
        """A list of texts."""
        values = [one.get("") for one in self.structures(name, most=most)]
        for value in values:
            if not value or len(value) > longest:
                raise _invalid(
                    value or "null", name,
                    f"Member must have length between 1 and {longest}",
                )  # fmt: skip
        return [value for value in values if value]


def _invalid(value: str, name: str, constraint: str) -> ValidationError:
    parameter = name[:1].lower() + name[1:]
    return ValidationError(
        f"1 validation error detected: Value '{value[:128]}' at '{parameter}' failed to satisfy "
        f"constraint: {constraint}"
    )
