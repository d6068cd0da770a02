"""Claims about the documents: what they name is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A path, or a name in the folder of the path before it on the line.
_NAME = re.compile(r"[\w./]+(?:\.py|/)(?=[\s·,)]|$)")


def named(document: str) -> set[str]:
    """Files and folders of the indented lines."""
    found = set()
    for line in document.splitlines():
        folder = ""
        for name in _NAME.findall(line) if line.startswith("    ") else ():
            if "/" in name.rstrip("/"):
                folder = name.rstrip("/").rpartition("/")[0] + "/"
                found.add(name)
            else:
                found.add(folder + name)
    return found


def test_the_architecture_names_only_modules_that_are_there() -> None:
    found = named((ROOT / "docs" / "architecture.md").read_text())
    assert len(found) > 100
    assert {name for name in found if not (ROOT / name).exists()} == set()


def test_links_between_documents_lead_somewhere() -> None:
    lost = set()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / link).exists():
                lost.add(f"{path.relative_to(ROOT)}: {link}")
    assert lost == set()
