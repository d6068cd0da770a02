"""`python -m gateway catalog|worker|repair …`: the gateway's processes."""

import importlib
import sys

ROLES = ("catalog", "worker", "repair")


def main(arguments: list[str]) -> int:
    """Run the process that the first word names; the exit code."""
    if not arguments or arguments[0] not in ROLES:
        usage = f"usage: python -m gateway {'|'.join(ROLES)} --network FILE --lifeline FD\n"
        sys.stderr.write(usage)
        return 2
    node = importlib.import_module(f"gateway.nodes.{arguments[0]}")  # heavy: not for a wrong call
    code: int = node.run(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
