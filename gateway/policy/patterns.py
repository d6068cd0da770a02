"""Wildcards and policy variables in the strings of a policy.

`*` is any run of characters, `?` any one. With version 2012-10-17 `${name}` is the context key
`name` (or `default` in `${name, 'default'}`), and `${*}`, `${?}`, `${$}` the characters themselves.
What a variable stands for is never a wildcard.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
"""

import re
from collections.abc import Mapping
from functools import lru_cache

Context = Mapping[str, tuple[str, ...]]  # lower-case condition key -> its values

# Possessive throughout: a document of 20 KiB of `${` must not take quadratic time.
_VARIABLE = re.compile(r"\$\{([^{}']*+)(?:'([^']*+)'\s*+)?+\}")
_LITERALS = ("*", "?", "$")


@lru_cache(maxsize=2048)
def _compiled(pieces: tuple[str, ...]) -> re.Pattern[str]:
    """`pieces` alternate: a pattern, then text to be taken as it is, …

    Each `*` but the last is followed by an atomic group up to the text behind it: the first place
    that fits is as good as any, so nothing is tried twice and the time is bounded by the product
    of the lengths, not by a power of them.
    """
    runs: list[str] = [""]
    for index, piece in enumerate(pieces):
        if index % 2:
            runs[-1] += re.escape(piece)
            continue
        first, *rest = piece.split("*")
        runs[-1] += _escaped(first)
        runs.extend(_escaped(run) for run in rest)
    head, *tail = runs
    expression = head
    if tail:
        *middle, last = tail
        expression += "".join(f"(?>.*?{run})" for run in middle if run)
        expression += f".*{last}" if last else ".*"
    return re.compile(expression, re.DOTALL)


def _escaped(run: str) -> str:
    return ".".join(re.escape(part) for part in run.split("?"))


def _pieces(pattern: str, context: Context, *, variables: bool) -> tuple[str, ...] | None:
    if not variables or "${" not in pattern:
        return (pattern,)
    split = _VARIABLE.split(pattern)
    pieces = [split[0]]
    for start in range(1, len(split), 3):
        named, default, behind = split[start], split[start + 1], split[start + 2]
        name = named.strip().removesuffix(",").rstrip()
        value: str | None = name
        if name not in _LITERALS:
            values = context.get(name.lower(), ())
            value = values[0] if len(values) == 1 else default
        if value is None:
            return None
        pieces += [value, behind]
    return tuple(pieces)


def matches(pattern: str, text: str, context: Context, *, variables: bool) -> bool:
    """Whether the whole of `text` fits. A variable without a value and a default fits nothing."""
    if pattern == "*":
        return True
    pieces = _pieces(pattern, context, variables=variables)
    return pieces is not None and _compiled(pieces).fullmatch(text) is not None


def substituted(text: str, context: Context, *, variables: bool) -> str | None:
    """`text` with its variables replaced, for operators without wildcards; None as above."""
    pieces = _pieces(text, context, variables=variables)
    return None if pieces is None else "".join(pieces)


def fields(arn: str) -> list[str]:
    """The six fields of an ARN; a colon in a variable ends none."""
    hidden = _VARIABLE.sub(lambda found: found.group().replace(":", "\0"), arn)
    return [field.replace("\0", ":") for field in hidden.split(":", 5)]
