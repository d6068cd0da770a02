"""Headers that ask for what this release does not do. To ignore them would be to promise it."""

from collections.abc import Mapping

from gateway.errors import AccessDenied, NotImplementedHere
from gateway.model import Bucket

_REFUSED = ("x-amz-write-offset-bytes",)


def refuse_unsupported(headers: Mapping[str, str]) -> None:
    """Raises NotImplementedHere."""
    for name in _REFUSED:
        if headers.get(name, "").lower() not in ("", "false"):
            raise NotImplementedHere(Header=name)


def check_expected_owner(headers: Mapping[str, str], bucket: Bucket, name: str) -> None:
    """x-amz-expected-bucket-owner and its like. Raises AccessDenied."""
    expected = headers.get(name)
    if expected is not None and expected != bucket.owner.id:
        raise AccessDenied
