"""`python -m gateway catalog|worker|repair|jobs …`: the gateway's processes."""

import gc
import importlib
import os
import sys

# What users ask for comes first, from the first import on.
NICENESS = {"catalog": 0, "worker": 0, "repair": 10, "jobs": 10}


def main(arguments: list[str]) -> int:
    """Run the process that the first word names; the exit code."""
    if not arguments or arguments[0] not in NICENESS:
        usage = f"usage: python -m gateway {'|'.join(NICENESS)} --network FILE --lifeline FD\n"
        sys.stderr.write(usage)
        return 2
    os.nice(NICENESS[arguments[0]])
    gc.disable()  # until run_node: it finds nothing in imports, and took 0.11 of their 1.0 CPU s
    node = importlib.import_module(f"gateway.nodes.{arguments[0]}")  # heavy: not for a wrong call
    code: int = node.run(arguments[1:])
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
