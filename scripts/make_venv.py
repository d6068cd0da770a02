"""Make `.venv` and fill it from a lock file: all of it wheels with pinned hashes.

    python3 scripts/make_venv.py requirements.lock

Standard library only, Python >= 3.11. pip itself is pinned too: its wheel is fetched from the
package index and run from its zip, so ensurepip (missing on Debian without python3-venv) is not
needed, and every machine resolves with the same pip. ADR 001.
"""

import hashlib
import html.parser
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PIP_WHEEL = "pip-26.3-py3-none-any.whl"
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
PIP_BYTES_MAX = 16 << 20
# Pure-Python packages (of py-cid) that are published without a wheel: built by the pinned
# setuptools, no compiler.
SOURCE_ONLY = "python-baseconv,varint"


def main(arguments: list[str]) -> int:
    """Make the environment; the lock file's name is the only argument."""
    if len(arguments) != 1 or not (ROOT / arguments[0]).is_file():
        print("usage: make_venv.py requirements.lock", file=sys.stderr)
        return 2
    try:
        if not (VENV / "bin" / "python").exists():
            create()
        install("-r", "requirements-build.lock", "--require-hashes", "--only-binary", ":all:")
        only = ("--only-binary", ":all:", "--no-binary", SOURCE_ONLY)
        install("-r", arguments[0], "--require-hashes", *only, "--no-build-isolation")
        install("--no-deps", "--no-build-isolation", "--editable", ".")
    except subprocess.CalledProcessError as error:
        print(f"installing failed: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"cannot make {VENV}: {error}", file=sys.stderr)
        return 1
    return 0


def create() -> None:
    """An environment with the pinned pip in it."""
    run(sys.executable, "-m", "venv", "--without-pip", str(VENV))
    with tempfile.TemporaryDirectory() as folder:
        wheel = fetch_pip(Path(folder))
        run(str(VENV / "bin" / "python"), f"{wheel}/pip", "install", "-q", "--no-index", str(wheel))


def install(*arguments: str) -> None:
    """pip install in the environment, from the project's root."""
    python = str(VENV / "bin" / "python")
    pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check")
    # What setuptools warns of while it builds is nothing that a user could act on.
    run(python, *pip, *arguments, environ={**os.environ, "PYTHONWARNINGS": "ignore"})


def run(*command: str, environ: dict[str, str] | None = None) -> None:
    """Run a command; raise when it fails."""
    subprocess.run(command, check=True, cwd=ROOT, env=environ)


class Links(html.parser.HTMLParser):
    """The href of the link to one file, from a simple index page (PEP 503)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.found = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one tag."""
        href = dict(attrs).get("href") or ""
        if tag == "a" and urllib.parse.urlsplit(href).path.rsplit("/", 1)[-1] == self.name:
            self.found = href


def fetch_pip(folder: Path) -> Path:
    """pip's pinned wheel, from the package index (PIP_INDEX_URL or PyPI), hash checked."""
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/") + "/pip/"
    links = Links(PIP_WHEEL)
    links.feed(get(index).decode())
    if not links.found:
        raise ValueError(f"{index} does not list {PIP_WHEEL}")
    content = get(urllib.parse.urljoin(index, links.found))
    if hashlib.sha256(content).hexdigest() != PIP_SHA256:
        raise ValueError(f"{PIP_WHEEL} from {index} has not the pinned hash")
    wheel = folder / PIP_WHEEL
    wheel.write_bytes(content)
    return wheel


def get(url: str) -> bytes:
    """A bounded download."""
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    try:
        with urllib.request.urlopen(url, timeout=60, context=context) as reply:
            content: bytes = reply.read(PIP_BYTES_MAX + 1)
    except urllib.error.URLError as error:
        raise OSError(f"{url}: {error.reason}") from None
    if len(content) > PIP_BYTES_MAX:
        raise ValueError(f"{url} is larger than expected")
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
