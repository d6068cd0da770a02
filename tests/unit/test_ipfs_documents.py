"""Claims about docs/ipfs-compatibility.md and docs/ipfs-api.md: what they list is what there is."""

import re
from dataclasses import fields
from pathlib import Path

from gateway.config import Config
from gateway.ipfs.api.commands import COMMANDS
from gateway.ipfs.sites.redirects import STATUSES
from gateway.ipfs.web.formats import Format
from gateway.ipfs.web.respond.table import RESPONDERS

DOCS = Path(__file__).parents[2] / "docs"
GATEWAY = (DOCS / "ipfs-compatibility.md").read_text()
API = (DOCS / "ipfs-api.md").read_text()


def row(area: str) -> str:
    [found] = re.findall(rf"^\| {area} \| (.*) \|$", GATEWAY, re.M)
    return str(found)


def test_the_formats_of_the_document_are_those_that_are_served() -> None:
    listed = row("Formats").partition("(IPIP-523): ")[2].partition(";")[0]
    served = {form.value for form in RESPONDERS} | {Format.IPNS_RECORD.value}
    assert set(re.findall(r"`([a-z-]+)`", listed)) == served - {""}
    assert served == {form.value for form in Format}


def test_the_statuses_of_redirects_are_those_of_the_document() -> None:
    assert set(map(int, re.findall(r"\b\d{3}\b", row("`_redirects`")))) - {386} == STATUSES


def commands() -> set[str]:
    """The commands of the table: `GROUP VERB`, and behind it further verbs of the group."""
    found = set()
    for cell in re.findall(r"^\| (`.*?) \| ", API, re.M):
        group = ""
        for name in re.findall(r"`([a-z0-9/ ]+)`", re.sub(r"\((?!`key/ls)[^)]*\)", "", cell)):
            if " " in name:
                group = name.split(" ")[0]
                found.add(name.replace(" ", "/"))
            else:
                found.add(f"{group}/{name}" if group and "/" not in name else name)
    return found


def test_the_commands_of_the_document_are_those_that_are_served() -> None:
    assert commands() == set(COMMANDS)


def test_what_the_document_says_is_not_served_is_not() -> None:
    absent = GATEWAY.partition("## API")[2].partition("## S3")[0].partition("Not served")[2]
    names = {name.replace(" ", "/") for name in re.findall(r"`([a-z0-9 ]+)`", absent)}
    assert len(names) > 15
    served = set(COMMANDS)
    for name in names - {"cumulus/status"}:
        assert name not in served
        assert not any(command.startswith(f"{name}/") for command in served)


def test_the_settings_of_operations_are_those_that_there_are() -> None:
    settings = (
        (DOCS / "operations.md").read_text().partition("[ipfs]\n")[2].partition("[catalog]")[0]
    )
    listed = set(re.findall(r"^(?:# )?([a-z_]+) = ", settings, re.M))
    tables = set(re.findall(r"^\[ipfs\.([a-z_]+)\]", settings, re.M))
    rows = [str(field.metadata.get("toml", "")) for field in fields(Config)]
    assert listed | tables == {row.removeprefix("ipfs.") for row in rows if row.startswith("ipfs.")}


def test_links_of_the_documents_lead_to_files() -> None:
    for text in (GATEWAY, API):
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (DOCS / target).exists(), target
