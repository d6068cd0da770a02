"""Pages of an account's entities."""

from collections.abc import Callable
from typing import TypeVar

from gateway.iam.call import Call, Result, listed
from gateway.iam.reply import Value
from gateway.iam.rows import Entity

R = TypeVar("R", bound=Entity)
_BATCH = 500


def page_of(
    call: Call, kind: type[R], field: str, shown: Callable[[R], Value],
    wanted: Callable[[R], bool] | None = None, *, after: str | None = None,
) -> Result:  # fmt: skip
    """A page of all entities of a kind under PathPrefix, by name without regard to case."""
    start, limit, found = call.path_prefix(), call.limit(), list[R]()
    after = (call.marker() if after is None else after).lower()
    while len(found) <= limit:
        batch = call.view.page(kind, after, _BATCH)
        found += [
            row for row in batch if row.path.startswith(start) and (not wanted or wanted(row))
        ]
        if len(batch) < _BATCH:
            break
        after = batch[-1].name.lower()
    page = found[:limit]
    following = page[-1].name.lower() if len(found) > limit else ""
    return listed(field, [shown(row) for row in page], following)
