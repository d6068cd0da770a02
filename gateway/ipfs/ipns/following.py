"""Directories that names follow: `BUCKET/PREFIX` as the path of what is there now."""

from collections.abc import Callable

from gateway.errors import NoSuchBucket
from gateway.ipfs.errors import NotFound
from gateway.ipfs.index.directories import Directories
from gateway.model import Bucket


def path_of(directories: Directories, bucket: Bucket, prefix: str) -> str:
    """The path under /ipfs. Raises NotFound: the bucket does not publish, or has nothing there."""
    return f"/ipfs/{directories.root(bucket, prefix)}"


def roots(directories: Directories, bucket: Callable[[str], Bucket]) -> Callable[[str], str | None]:
    """What KeyBook.renew asks. `bucket` raises NoSuchBucket."""

    def root(place: str) -> str | None:
        name, _, prefix = place.partition("/")
        try:
            return path_of(directories, bucket(name), prefix)
        except (NoSuchBucket, NotFound):
            return None

    return root
