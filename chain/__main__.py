"""`python -m chain`."""

import sys

from chain.cli import main

sys.exit(main())
