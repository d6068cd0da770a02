"""Install other people's S3 clients and drive each against a network of ours: `make test-clients`.

Libraries go into .venv-clients, programs come from apt (as root or with sudo). What cannot be
installed here fails its own test and no other.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv-clients"
REQUIREMENTS = ROOT / "tests" / "more_clients" / "requirements.txt"
# program -> Debian's package
PROGRAMS = {
    "restic": "restic",
    "s3fs": "s3fs",
    "docker-registry": "docker-registry",
    "/usr/bin/aws": "awscli",
}


def run(*command: str | Path, check: bool = True, **environ: str) -> int:
    """Run a command in the project's folder; its exit code."""
    print("+", *command, flush=True)
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, check=check, env=os.environ | environ
    ).returncode


def install() -> None:
    """Everything that the tests drive."""
    if not (VENV / "bin" / "python").exists():
        run(sys.executable, "-m", "venv", VENV)
    run(VENV / "bin" / "python", "-m", "pip", "install", "-q", "-r", REQUIREMENTS)
    missing = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name)})
    if missing and shutil.which("apt-get"):
        sudo = () if os.geteuid() == 0 else ("sudo", "-n")
        run(*sudo, "apt-get", "update", "-qq")
        run(*sudo, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def main(words: list[str]) -> int:
    """Install, then pytest with `words`; its exit code."""
    install()
    return run(
        sys.executable, "-m", "pytest", "tests/more_clients", *words, check=False,
        CUMULUS_MORE_CLIENTS="1",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
