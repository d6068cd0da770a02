"""A policy document: bytes from outside in, a checked value out.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

import json
from dataclasses import dataclass
from typing import Any

from gateway.policy.keys import is_key
from gateway.policy.operators import OPERATORS, Requirement

DOCUMENT_MAX = 20 * 1024  # bytes of a bucket's policy; AWS's limit
# Characters; twice the longest key. A pattern of 20,000 takes a second to compile.
STRING_MAX = 2048
VERSIONS = ("2008-10-17", "2012-10-17")
_FIELDS = frozenset({
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
    "Condition",
})  # fmt: skip
_QUANTIFIERS = ("forallvalues", "foranyvalue")
ANYBODY = "*"


class MalformedPolicy(ValueError):
    """Not a policy; the message says why, in AWS's words where they are known."""


class PolicyTooLarge(ValueError):
    """More than DOCUMENT_MAX bytes."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Who may or may not do what with which, when. `not_…`: everything but what is listed.

    Principals are account ids, or `*` for everybody; actions are lower-case patterns.
    """

    allow: bool
    principals: frozenset[str]
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    tests: tuple[Requirement, ...] = ()
    sid: str = ""
    not_principals: bool = False
    not_actions: bool = False
    not_resources: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A document's statements. `variables`: ${…} are replaced (version 2012-10-17)."""

    statements: tuple[Statement, ...]
    variables: bool = False
    id: str = ""


def parse_policy(data: bytes) -> Policy:
    """Read a resource's policy. Raises MalformedPolicy, PolicyTooLarge."""
    if len(data) > DOCUMENT_MAX:
        raise PolicyTooLarge
    document = _json(data)
    if not document.keys() <= {"Version", "Id", "Statement"}:
        raise MalformedPolicy("Unknown field " + _shown(document.keys()))
    version = document.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        raise MalformedPolicy("The policy must contain a valid version string")
    given = document.get("Statement")
    statements = given if isinstance(given, list) else [given]
    if not statements:
        raise MalformedPolicy("Missing required field Statement")
    parsed = tuple(_statement(one) for one in statements)
    sids = [one.sid for one in parsed if one.sid]
    if len(sids) != len(set(sids)):
        raise MalformedPolicy("Statement IDs (SID) in a single policy must be unique")
    return Policy(parsed, version == VERSIONS[1], _string(document.get("Id", ""), "Id"))


def _json(data: bytes) -> dict[str, Any]:
    if data[:1] != b"{":
        raise MalformedPolicy("Policies must be valid JSON and the first byte must be '{'")
    try:
        document = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_constant)
    except MalformedPolicy:
        raise
    except (ValueError, RecursionError):
        raise MalformedPolicy("This policy contains invalid Json") from None
    assert isinstance(document, dict)  # its first byte is {
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MalformedPolicy("This policy contains a field twice")
    return document


def _constant(name: str) -> Any:
    raise ValueError(name)


def _shown(names: Any) -> str:
    return ", ".join(sorted(str(name)[:64] for name in names))


# ------------------------------------------------------------------ statements
def _statement(given: Any) -> Statement:
    if not isinstance(given, dict):
        raise MalformedPolicy("Missing required field Statement")
    if not given.keys() <= _FIELDS:
        raise MalformedPolicy("Unknown field " + _shown(given.keys() - _FIELDS))
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicy(f"Invalid effect: {str(effect)[:64]}")
    principals, not_principals = _either(given, "Principal")
    if not_principals and effect == "Allow":
        raise MalformedPolicy("Allow with NotPrincipal is not supported")
    actions, not_actions = _either(given, "Action")
    resources, not_resources = _either(given, "Resource")
    return Statement(
        allow=effect == "Allow",
        principals=_principals(principals),
        actions=tuple(_action(one) for one in _strings(actions, "Action")),
        resources=tuple(_resource(one) for one in _strings(resources, "Resource")),
        tests=_tests(given.get("Condition", {})),
        sid=_string(given.get("Sid", ""), "Sid"),
        not_principals=not_principals,
        not_actions=not_actions,
        not_resources=not_resources,
    )


def _either(given: dict[str, Any], name: str) -> tuple[Any, bool]:
    """The field or its Not form, exactly one of them."""
    negated = f"Not{name}"
    if (name in given) == (negated in given):
        problem = "Missing required field" if name not in given else "Conflicting field"
        raise MalformedPolicy(f"{problem} {name}")
    return (given[negated], True) if negated in given else (given[name], False)


def _string(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise MalformedPolicy(f"Invalid {name}: not a string")
    if len(value) > STRING_MAX:
        raise MalformedPolicy(f"Invalid {name}: more than {STRING_MAX} characters")
    return value


def _strings(value: Any, name: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise MalformedPolicy(f"{name} is empty")
    return [_string(one, name) for one in values]


def _action(text: str) -> str:
    service, colon, name = text.partition(":")
    if text != "*" and (service.lower() != "s3" or not colon or not name):
        raise MalformedPolicy("Policy has invalid action")
    return text.lower()


def _resource(text: str) -> str:
    if text != "*" and not text.startswith("arn:aws:s3:::"):
        raise MalformedPolicy("Policy has invalid resource")
    return text


def _principals(value: Any) -> frozenset[str]:
    if value == ANYBODY:
        return frozenset({ANYBODY})
    if not isinstance(value, dict) or not value or not value.keys() <= {"AWS", "CanonicalUser"}:
        raise MalformedPolicy("Invalid principal in policy")
    found = []
    if "AWS" in value:
        found += [_account(one) for one in _strings(value["AWS"], "Principal")]
    if "CanonicalUser" in value:
        found += [_plain(one) for one in _strings(value["CanonicalUser"], "Principal")]
    return frozenset(found)


def _account(text: str) -> str:
    """An account's id, from itself or from arn:aws:iam::ID:root."""
    prefix, suffix = "arn:aws:iam::", ":root"
    if text == ANYBODY:
        return text
    if text.startswith(prefix) and text.endswith(suffix):
        return _plain(text[len(prefix) : -len(suffix)])
    if text.startswith("arn:"):  # users and roles are not served yet: nobody would be meant
        raise MalformedPolicy("Invalid principal in policy")
    return _plain(text)


def _plain(text: str) -> str:
    usual = 0 < len(text) <= 128 and text.isascii() and text.isprintable()
    if not usual or any(sign in text for sign in " *?"):
        raise MalformedPolicy("Invalid principal in policy")
    return text


# ------------------------------------------------------------------ conditions
def _tests(block: Any) -> tuple[Requirement, ...]:
    if not isinstance(block, dict):
        raise MalformedPolicy("Invalid Condition: not an object")
    found = []
    for operator, keys in block.items():
        if not isinstance(keys, dict):
            raise MalformedPolicy(f"Invalid Condition type : {operator[:64]}")
        found += [_test(operator, key, values) for key, values in keys.items()]
    return tuple(found)


def _test(operator: str, key: str, given: Any) -> Requirement:
    quantifier, colon, name = operator.lower().rpartition(":")
    if_exists = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    wrong = name not in OPERATORS or (colon and quantifier not in _QUANTIFIERS)
    if wrong or (name == "null" and (if_exists or colon)):
        raise MalformedPolicy(f"Invalid Condition type : {operator[:64]}")
    if not is_key(key.lower()):
        raise MalformedPolicy(f"Policy has an invalid condition key: {key[:64]}")
    values = tuple(_value(one) for one in (given if isinstance(given, list) else [given]))
    if not values:
        raise MalformedPolicy(f"Condition {key[:64]} has no value")
    try:
        for value in values:
            OPERATORS[name].check(value)
    except ValueError:
        raise MalformedPolicy(f"Invalid value of condition {key[:64]}") from None
    return Requirement(name, key.lower(), values, quantifier, if_exists)


def _value(given: Any) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, int | float):
        return str(given)
    return _string(given, "Condition")
