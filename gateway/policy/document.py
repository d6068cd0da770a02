"""A policy document: bytes from outside in, a checked value out.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

import json
import re
from dataclasses import dataclass
from enum import Enum, auto
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
# Who an account has: its users, its roles and their sessions, the issuers that it trusts.
_MEMBER = re.compile(
    r"arn:aws:iam::[!-~]{1,128}:(user|role)/[!-~]{1,600}"
    r"|arn:aws:sts::[!-~]{1,128}:(assumed-role|federated-user)/[!-~]{1,200}"
)
_ISSUER = re.compile(r"arn:aws:iam::[!-~]{1,128}:oidc-provider/[!-~]{1,255}")
_SERVICE = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,5}")
_ACTION = re.compile(r"[A-Za-z0-9-]{1,64}:[A-Za-z0-9*?]{1,128}")


class Kind(Enum):
    """What a document is attached to, which decides what it may say."""

    RESOURCE = auto()  # a bucket: who may do what with it
    IDENTITY = auto()  # a user, group or role: what it may do with which
    TRUST = auto()  # a role: who may become it


class MalformedPolicy(ValueError):
    """Not a policy; the message says why, in AWS's words where they are known."""


class PolicyTooLarge(ValueError):
    """More bytes than the kind of policy may have."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Who may or may not do what with which, when. `not_…`: everything but what is listed.

    Principals are account ids, ARNs of users, roles, sessions and issuers, or `*` for everybody
    (also in an identity's policy, which names none); actions are lower-case patterns.
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


def parse_policy(data: bytes, kind: Kind = Kind.RESOURCE) -> Policy:
    """Read a policy. Raises MalformedPolicy, PolicyTooLarge."""
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
    parsed = tuple(_statement(one, kind) for one in statements)
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
def _statement(given: Any, kind: Kind) -> Statement:
    if not isinstance(given, dict):
        raise MalformedPolicy("Missing required field Statement")
    if not given.keys() <= _FIELDS:
        raise MalformedPolicy("Unknown field " + _shown(given.keys() - _FIELDS))
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicy(f"Invalid effect: {str(effect)[:64]}")
    if kind is Kind.IDENTITY:
        _prohibit(given, "Principal")
        principals, not_principals = frozenset({ANYBODY}), False
    else:
        named, not_principals = _either(given, "Principal")
        principals = _principals(named, kind)
    if not_principals and effect == "Allow":
        raise MalformedPolicy("Allow with NotPrincipal is not supported")
    actions, not_actions = _either(given, "Action")
    if kind is Kind.TRUST:
        _prohibit(given, "Resource")
        resources, not_resources = ["*"], False
    else:
        resources, not_resources = _either(given, "Resource")
    return Statement(
        allow=effect == "Allow",
        principals=principals,
        actions=tuple(_action(one, kind) for one in _strings(actions, "Action")),
        resources=tuple(_resource(one, kind) for one in _strings(resources, "Resource")),
        tests=_tests(given.get("Condition", {}), kind),
        sid=_string(given.get("Sid", ""), "Sid"),
        not_principals=not_principals,
        not_actions=not_actions,
        not_resources=not_resources,
    )


def _prohibit(given: dict[str, Any], name: str) -> None:
    if name in given or f"Not{name}" in given:
        raise MalformedPolicy(f"Has prohibited field {name}")


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


def _action(text: str, kind: Kind) -> str:
    service, colon, name = text.partition(":")
    of_kind = {Kind.RESOURCE: "s3", Kind.TRUST: "sts"}.get(kind, service.lower())
    wrong = service.lower() != of_kind or not colon or not name
    if kind is Kind.IDENTITY:  # of any service
        wrong = not _ACTION.fullmatch(text)
    if text != "*" and wrong:
        raise MalformedPolicy("Policy has invalid action")
    return text.lower()


def _resource(text: str, kind: Kind) -> str:
    start = "arn:aws:s3:::" if kind is Kind.RESOURCE else "arn:"
    if text == "*" or (text.startswith(start) and (start != "arn:" or text.count(":") >= 5)):
        return text
    raise MalformedPolicy("Policy has invalid resource")


# What a Principal may hold beside AWS: the field and the check of its values.
_OTHERS = {
    Kind.RESOURCE: ("CanonicalUser", "Service"),
    Kind.TRUST: ("Federated", "Service"),
}


def _principals(value: Any, kind: Kind) -> frozenset[str]:
    if value == ANYBODY:
        return frozenset({ANYBODY})
    wrong = MalformedPolicy("Invalid principal in policy")
    if not isinstance(value, dict) or not value:
        raise wrong
    found = []
    for field, given in value.items():
        if field != "AWS" and field not in _OTHERS[kind]:
            raise wrong
        found += [_principal(field, one) for one in _strings(given, "Principal")]
    return frozenset(found)


def _principal(field: str, text: str) -> str:
    if field == "AWS":
        return _account(text)
    if field == "CanonicalUser":
        return _plain(text)
    if not (_ISSUER if field == "Federated" else _SERVICE).fullmatch(text):
        raise MalformedPolicy("Invalid principal in policy")
    return text


def _account(text: str) -> str:
    """An account's id, from itself or from arn:aws:iam::ID:root; an ARN of whom it has."""
    prefix, suffix = "arn:aws:iam::", ":root"
    if text == ANYBODY:
        return text
    if text.startswith(prefix) and text.endswith(suffix):
        return _plain(text[len(prefix) : -len(suffix)])
    if text.startswith("arn:"):
        if not _MEMBER.fullmatch(text) or "*" in text or "?" in text:
            raise MalformedPolicy("Invalid principal in policy")
        return text
    return _plain(text)


def _plain(text: str) -> str:
    usual = 0 < len(text) <= 128 and text.isascii() and text.isprintable()
    if not usual or any(sign in text for sign in " *?"):
        raise MalformedPolicy("Invalid principal in policy")
    return text


# ------------------------------------------------------------------ conditions
def _tests(block: Any, kind: Kind) -> tuple[Requirement, ...]:
    if not isinstance(block, dict):
        raise MalformedPolicy("Invalid Condition: not an object")
    found = []
    for operator, keys in block.items():
        if not isinstance(keys, dict):
            raise MalformedPolicy(f"Invalid Condition type : {operator[:64]}")
        found += [_test(operator, key, values, kind) for key, values in keys.items()]
    return tuple(found)


def _test(operator: str, key: str, given: Any, kind: Kind) -> Requirement:
    quantifier, colon, name = operator.lower().rpartition(":")
    if_exists = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    wrong = name not in OPERATORS or (colon and quantifier not in _QUANTIFIERS)
    if wrong or (name == "null" and (if_exists or colon)):
        raise MalformedPolicy(f"Invalid Condition type : {operator[:64]}")
    if not is_key(key.lower(), others=kind is not Kind.RESOURCE):
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
