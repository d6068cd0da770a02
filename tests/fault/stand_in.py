"""A node's stand-in that tells what it was given, as one line of JSON, and waits for its end."""

import json
import os
import sys
from pathlib import Path


def told() -> dict[str, object]:
    """What a process was started with."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "name": __name__,
        "arguments": sys.argv[1:],
        "command line": Path("/proc/self/cmdline").read_text().strip("\0").split("\0"),
        "path": sys.path[0],
        "session of its own": os.getsid(0) == os.getpid(),
        "descriptors": {
            path.name: str(path.readlink())
            for path in Path("/proc/self/fd").iterdir()
            if path.is_symlink()  # not the listing's own
        },
        "signals": [status[key] for key in ("SigBlk", "SigIgn")],
        "threads": status["Threads"],
    }


if __name__ == "__main__":
    print(json.dumps(told()), flush=True)
    if sys.argv[1] == "wait":
        os.read(int(sys.argv[2]), 1)
    else:
        sys.exit(int(sys.argv[1]))
