"""The aws command line in one process: each line in is a command, each line out its outcome.

Starting it takes 0.4 s of CPU, a command 0.01 s: it does what `aws` does, many times.
"""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from awscli.clidriver import create_clidriver

driver = create_clidriver()
answers = sys.stdout
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = driver.main(json.loads(line))
        except SystemExit as stopped:
            code = stopped.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
