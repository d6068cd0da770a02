"""Request documents: a hardened parser and one reader per document.

A DTD is refused where it starts, so there are no entities and no external references; size is
bounded before parsing, depth and element count while it goes on.
"""

from dataclasses import dataclass
from xml.etree.ElementTree import Element
from xml.parsers import expat

from gateway.model import Algorithm, CompletedPart
from gateway.s3.checksums import ELEMENTS, parse_digest
from gateway.s3.errors import MalformedXML

DOCUMENT_MAX = 2 << 20  # 10,000 parts with checksums take 1.6 MB; 1,000 keys of 1 KiB 1.1 MB
ELEMENTS_MAX = 100_000
DEPTH_MAX = 16
DELETE_MAX = 1000
PARTS_MAX = 10_000


class _Builder:
    """Builds a tree from expat's events, within the limits. Namespaces are dropped."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self._stack: list[Element] = []
        self._count = 0
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        self._parser = parser

    def parse(self, data: bytes) -> None:
        self._parser.Parse(data, True)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._stack) >= DEPTH_MAX:
            raise MalformedXML
        element = Element(tag.rpartition("}")[2], attributes)
        if self._stack:
            self._stack[-1].append(element)
        else:
            self.root = element
        self._stack.append(element)

    def _end(self, tag: str) -> None:
        del tag
        self._stack.pop()

    def _data(self, text: str) -> None:
        top = self._stack[-1]
        if not len(top):  # text behind a child means nothing in S3's documents
            top.text = (top.text or "") + text


def _refuse_doctype(*_: object) -> None:
    raise MalformedXML


def parse_document(data: bytes, root: str) -> Element:
    """A tree without namespaces whose root is `root`. Raises MalformedXML."""
    if len(data) > DOCUMENT_MAX:
        raise MalformedXML
    builder = _Builder()
    try:
        builder.parse(data)
    except (expat.ExpatError, ValueError, LookupError):
        raise MalformedXML from None
    if builder.root is None or builder.root.tag != root:
        raise MalformedXML
    return builder.root


def child_text(element: Element, name: str) -> str | None:
    """The text of the first child of this name; None without one."""
    child = element.find(name)
    return None if child is None else (child.text or "")


def child_texts(element: Element, name: str) -> tuple[str, ...]:
    """The texts of all children of this name."""
    return tuple(child.text or "" for child in element.findall(name))


# ------------------------------------------------------------------ DeleteObjects
@dataclass(frozen=True, slots=True)
class DeleteEntry:
    """One object to delete."""

    key: str
    version_id: str | None = None
    etag: str | None = None
    size: str | None = None
    modified: str | None = None


def parse_delete(data: bytes) -> tuple[list[DeleteEntry], bool]:
    """(entries, quiet) of a Delete document: 1 to 1,000 objects. Raises MalformedXML."""
    tree = parse_document(data, "Delete")
    entries = []
    for element in tree.findall("Object"):
        key = child_text(element, "Key")
        if not key:
            raise MalformedXML
        entries.append(
            DeleteEntry(
                key,
                child_text(element, "VersionId") or None,
                child_text(element, "ETag"),
                child_text(element, "Size"),
                child_text(element, "LastModifiedTime"),
            )
        )
    if not 1 <= len(entries) <= DELETE_MAX:
        raise MalformedXML
    return entries, (child_text(tree, "Quiet") or "").strip().lower() == "true"


# ------------------------------------------------------------------ CompleteMultipartUpload
def parse_complete(data: bytes, algorithm: Algorithm | None) -> list[CompletedPart]:
    """The parts, in the client's order, with their checksums of `algorithm` (others are ignored).

    Raises MalformedXML, InvalidRequest.
    """
    tree = parse_document(data, "CompleteMultipartUpload")
    parts = [_completed_part(element, algorithm) for element in tree.findall("Part")]
    if not 1 <= len(parts) <= PARTS_MAX:
        raise MalformedXML
    return parts


def _completed_part(element: Element, algorithm: Algorithm | None) -> CompletedPart:
    number, etag = (child_text(element, "PartNumber") or "").strip(), child_text(element, "ETag")
    if etag is None or not (number.isascii() and number.isdigit() and len(number) <= 5):
        raise MalformedXML
    if not 1 <= int(number) <= PARTS_MAX:
        raise MalformedXML
    digest = None
    if algorithm is not None and (text := child_text(element, ELEMENTS[algorithm])) is not None:
        digest = parse_digest(algorithm, text.strip())
    return CompletedPart(int(number), etag.strip().strip('"'), digest)


# ------------------------------------------------------------------ buckets
def parse_location(data: bytes) -> str:
    """LocationConstraint of a CreateBucketConfiguration, "" without one. Raises MalformedXML."""
    if not data.strip():
        return ""
    tree = parse_document(data, "CreateBucketConfiguration")
    return (child_text(tree, "LocationConstraint") or "").strip()
