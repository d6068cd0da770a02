"""Where `make test-clients` puts what it installs."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-clients" / "bin"
PYTHON = FOLDER / "python"


def client(name: str) -> str:
    """The path of a program: the environment's own, or the system's."""
    own = FOLDER / name
    found = str(own) if own.exists() else shutil.which(name)
    assert found, f"{name} is not installed: 'make test-clients' installs it"
    return found
