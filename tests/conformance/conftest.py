"""What most suites of S3 begin with."""

from collections.abc import Iterator

import pytest

from tests.conformance.s3_server import Server, running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The front end over a store in memory, one for the file."""
    with running() as server:
        yield server
