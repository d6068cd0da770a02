"""The networks of tests/clients; without `make test-clients` nothing here is collected."""

import os

from tests.clients.conftest import bucket, network, plain_network, secure_network, tree

__all__ = ["bucket", "network", "plain_network", "secure_network", "tree"]

collect_ignore_glob = [] if os.environ.get("CUMULUS_MORE_CLIENTS") == "1" else ["*"]
