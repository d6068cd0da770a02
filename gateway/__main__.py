"""`python -m gateway catalog|worker …`: the gateway's processes."""

import importlib
import sys


def main(arguments: list[str]) -> int:
    """Run the process that the first word names; the exit code."""
    roles = {"catalog": "run_catalog", "worker": "run_worker"}
    if not arguments or arguments[0] not in roles:
        sys.stderr.write("usage: python -m gateway catalog|worker --network FILE --lifeline FD\n")
        return 2
    node = importlib.import_module("gateway.node")  # heavy: not for a wrong call
    code: int = getattr(node, roles[arguments[0]])(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
