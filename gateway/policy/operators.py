"""Condition operators: what a value of a policy says of a value of the request.

A key with several values in the policy: one must fit; with a negated operator none may. A key that
the request has not: false, and true when negated, with IfExists or with ForAllValues.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from operator import eq, ge, gt, le, lt

from gateway.policy.patterns import Context, fields, matches, substituted

# (value of the policy, value of the request, context, variables) -> whether they fit
Comparison = Callable[[str, str, Context, bool], bool]
_NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?")


@dataclass(frozen=True, slots=True)
class Operator:
    """A comparison; `check` says whether a value of a policy can be compared at all."""

    compare: Comparison
    check: Callable[[str], object] = str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """One operator, key and its values of a Condition block."""

    operator: str  # by its name, without prefix and suffix
    key: str  # lower-case
    values: tuple[str, ...]
    quantifier: str = ""  # forallvalues, foranyvalue
    if_exists: bool = False


# ------------------------------------------------------------------ values
def parse_number(text: str) -> Decimal:
    """Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text[:40])
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(text[:40]) from None


def parse_date(text: str) -> datetime:
    """ISO 8601, without a zone UTC, or seconds since 1970. Raises ValueError."""
    if _NUMBER.fullmatch(text):
        try:
            return datetime.fromtimestamp(int(Decimal(text)), UTC)
        except (OverflowError, OSError):
            raise ValueError(text[:40]) from None
    if len(text) > 40:
        raise ValueError(text[:40])
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """An address or CIDR block. Raises ValueError."""
    return ip_network(text, strict=False)


def parse_bool(text: str) -> bool:
    """Raises ValueError."""
    if text.lower() not in ("true", "false"):
        raise ValueError(text[:40])
    return text.lower() == "true"


def parse_binary(text: str) -> bytes:
    """Base64. Raises ValueError."""
    try:
        return b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError(text[:40]) from error


# ------------------------------------------------------------------ comparisons
def _same(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return substituted(wanted, context, variables=variables) == given


def _same_ignoring_case(wanted: str, given: str, context: Context, variables: bool) -> bool:
    text = substituted(wanted, context, variables=variables)
    return text is not None and text.casefold() == given.casefold()


def _like(wanted: str, given: str, context: Context, variables: bool) -> bool:
    return matches(wanted, given, context, variables=variables)


def _arn_like(wanted: str, given: str, context: Context, variables: bool) -> bool:
    """Each of an ARN's six fields for itself: a wildcard does not reach over a colon."""
    patterns, parts = fields(wanted), given.split(":", 5)
    if len(patterns) != 6 or len(parts) != 6:
        return False
    pairs = zip(patterns, parts, strict=True)
    return all(matches(one, other, context, variables=variables) for one, other in pairs)


def _in_network(wanted: str, given: str, context: Context, variables: bool) -> bool:
    del context, variables
    address = ip_address(given)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in parse_network(wanted)


def _comparison(parse: Callable[[str], object], holds: Callable[..., bool]) -> Comparison:
    def compare(wanted: str, given: str, context: Context, variables: bool) -> bool:
        del context, variables
        return holds(parse(given), parse(wanted))

    return compare


def _family(name: str, parse: Callable[[str], object]) -> dict[str, Operator]:
    """Equals, NotEquals and the four inequalities."""
    return {
        f"{name}equals": Operator(_comparison(parse, eq), parse),
        f"{name}notequals": Operator(_comparison(parse, eq), parse, negated=True),
        f"{name}lessthan": Operator(_comparison(parse, lt), parse),
        f"{name}lessthanequals": Operator(_comparison(parse, le), parse),
        f"{name}greaterthan": Operator(_comparison(parse, gt), parse),
        f"{name}greaterthanequals": Operator(_comparison(parse, ge), parse),
    }


OPERATORS: dict[str, Operator] = {
    "stringequals": Operator(_same),
    "stringnotequals": Operator(_same, negated=True),
    "stringequalsignorecase": Operator(_same_ignoring_case),
    "stringnotequalsignorecase": Operator(_same_ignoring_case, negated=True),
    "stringlike": Operator(_like),
    "stringnotlike": Operator(_like, negated=True),
    "arnequals": Operator(_arn_like),
    "arnlike": Operator(_arn_like),
    "arnnotequals": Operator(_arn_like, negated=True),
    "arnnotlike": Operator(_arn_like, negated=True),
    **_family("numeric", parse_number),
    **_family("date", parse_date),
    "bool": Operator(_comparison(parse_bool, eq), parse_bool),
    "binaryequals": Operator(_comparison(parse_binary, eq), parse_binary),
    "ipaddress": Operator(_in_network, parse_network),
    "notipaddress": Operator(_in_network, parse_network, negated=True),
    # Whether the key is there at all: `holds` looks at it before any comparison.
    "null": Operator(_comparison(parse_bool, eq), parse_bool),
}


def holds(requirement: Requirement, context: Context, *, variables: bool) -> bool:
    """Whether one line of a Condition block is true of a request."""
    given = context.get(requirement.key, ())
    if requirement.operator == "null":
        return any(parse_bool(value) is not bool(given) for value in requirement.values)
    operator = OPERATORS[requirement.operator]
    if not given:
        if requirement.quantifier == "foranyvalue":
            return requirement.if_exists
        return requirement.if_exists or operator.negated or requirement.quantifier == "forallvalues"
    fits = (_fits(operator, requirement.values, value, context, variables) for value in given)
    if requirement.quantifier == "forallvalues":
        return all(fits)
    if requirement.quantifier == "foranyvalue":
        return any(fits)
    return all(fits) if operator.negated else any(fits)


def _fits(
    operator: Operator, wanted: tuple[str, ...], given: str, context: Context, variables: bool
) -> bool:
    try:
        found = any(operator.compare(value, given, context, variables) for value in wanted)
    except ValueError:  # the request's value is not of the operator's type
        found = False
    return found is not operator.negated
