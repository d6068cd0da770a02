"""What is not to be served: rules of compact denylists (IPIP-383,
https://specs.ipfs.tech/compact-denylist-format/). Pure; deny_files.py reads them from disk.

The last rule that matches wins; `!` before a rule allows. A rule of a bare CID blocks the block
itself, under any codec and on every walk; rules with paths block paths, at whatever directory they
begin. Rules of two slashes hold hashes of hashes: such a list does not say what it blocks.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

import base58
from blake3 import blake3

from chain import varint
from chain.cids import BLAKE3, SHA2_256, SHA2_512, Cid, InvalidCid
from gateway.ipfs.errors import Denied, DeniedByLaw

HEADER_BYTES_MAX = 1 << 20
LINE_BYTES_MAX = 2 << 20
_HEX = re.compile("[0-9a-f]{64}")
_LEGACY = -1  # the key of hex digests of "CIDV1/path"
_HASHES: Mapping[int, Callable[[bytes], bytes]] = {
    SHA2_256: lambda data: hashlib.sha256(data).digest(),
    SHA2_512: lambda data: hashlib.sha512(data).digest(),
    BLAKE3: lambda data: blake3(data).digest(),
}


class BadRule(ValueError):
    """A line that is no rule; the text says why."""


class Verdict(NamedTuple):
    """What a rule says, and its place among all rules."""

    number: int
    allow: bool
    status: int


class _PathRule(NamedTuple):
    path: str  # without the slash at its beginning and end
    is_prefix: bool
    verdict: Verdict

    def covers(self, path: str) -> bool:
        return path.startswith(self.path) if self.is_prefix else path == self.path


@dataclass(slots=True)
class Rules:
    """Rules, ready to be asked."""

    count: int = 0
    faults: list[str] = field(default_factory=list)  # lines that are no rules, the first 100
    blocks: dict[bytes, Verdict] = field(default_factory=dict)  # by multihash
    paths: dict[bytes, list[_PathRule]] = field(default_factory=lambda: defaultdict(list))
    doubles: dict[int, dict[bytes, Verdict]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, text: str) -> None:
        """Add the rules of one list. Raises BadRule when it is of a version that is not known."""
        header, lines = _split(text)
        hints = _header_hints(header)
        for line in lines:
            rule = line.strip()
            if not rule or rule.startswith("#"):
                continue
            try:
                self._add(rule, hints)
            except (BadRule, InvalidCid) as error:
                if len(self.faults) < 100:
                    self.faults.append(f"{rule[:120]}: {error}")

    def _add(self, line: str, hints: Mapping[str, str]) -> None:
        if len(line) > LINE_BYTES_MAX:
            raise BadRule("the line is too long")
        rule, *more = line.split()
        own = hints
        if more:
            found = (hint.partition(":") for hint in more)
            own = {**hints, **{key: value for key, sep, value in found if sep}}
        allow = rule[0] in "!+"
        rule = rule.removeprefix(rule[0]) if allow else rule
        self.count += 1
        verdict = Verdict(self.count, allow, _status(own))
        if rule.startswith("//"):
            self._add_double(rule[2:], verdict)
            return
        namespace, _, rest = rule.lstrip("/").partition("/")
        root, _, path = rest.partition("/")
        if namespace not in {"ipfs", "ipns"} or not rule.startswith("/") or not root:
            raise BadRule("a rule is /ipfs/CID, /ipns/NAME or //HASH")
        key = _root_key(namespace, root)
        is_prefix = path.endswith("*")
        path = unquote(path.removesuffix("*") if is_prefix else path).strip("/")
        if not path and namespace == "ipfs":
            self.blocks[key] = verdict
        if is_prefix or path or namespace == "ipns":
            self.paths[key].append(_PathRule(path, is_prefix, verdict))

    def _add_double(self, text: str, verdict: Verdict) -> None:
        if _HEX.fullmatch(text):  # no multihash of these functions has 64 characters
            self.doubles[_LEGACY][bytes.fromhex(text)] = verdict
            return
        try:
            raw = base58.b58decode(text)
            code, at = varint.decode(raw, 0)
            size, at = varint.decode(raw, at)
        except ValueError:
            raw, code, size, at = b"", 0, 0, 0
        if code not in _HASHES or size != len(raw) - at:
            raise BadRule("a double hash is a base58 multihash or 64 hexadecimal digits")
        self.doubles[code][raw[at:]] = verdict

    def check_block(self, cid: Cid) -> None:
        """Raises Denied, DeniedByLaw."""
        found = self.blocks.get(cid.multihash) if self.blocks else None
        if self.doubles:
            found = _later(found, self._double(cid, ""))
        _judge(found, str(cid))

    def check_path(self, cid: Cid, segments: Sequence[str]) -> None:
        """A path that begins at this CID. Raises Denied, DeniedByLaw."""
        path = "/".join(segments)
        found = _covering(self.paths.get(cid.multihash, ()), path) if self.paths else None
        if self.doubles and path:
            found = _later(found, self._double(cid, path))
        _judge(found, f"{cid}/{path}")

    def check_name(self, name: str, segments: Sequence[str]) -> None:
        """A path below a name. Raises Denied, DeniedByLaw."""
        path = "/".join(segments)
        found = _covering(self.paths.get(_root_key("ipns", name), ()), path)
        if self.doubles:
            try:
                found = _later(found, self._double(Cid.parse(name), path))
            except InvalidCid:
                end = f"/{path}" if path else ""
                modern, legacy = f"/ipns/{name}{end}", f"{name}/{path}"
                found = _later(found, self._hashed(modern.encode(), legacy.encode()))
        _judge(found, f"/ipns/{name}/{path}")

    def _double(self, cid: Cid, path: str) -> Verdict | None:
        end = f"/{path}" if path else ""
        version, codec, hash_code, digest = cid.parts()
        v1 = cid if version == 1 else Cid.of(codec, hash_code, digest)
        modern = base58.b58encode(cid.multihash) + end.encode("utf-8", "surrogateescape")
        legacy = f"{v1}/{path}".encode("utf-8", "surrogateescape")
        return self._hashed(modern, legacy)

    def _hashed(self, modern: bytes, legacy: bytes) -> Verdict | None:
        found: Verdict | None = None
        for code, digests in self.doubles.items():
            text, hashed = (legacy, SHA2_256) if code == _LEGACY else (modern, code)
            found = _later(found, digests.get(_HASHES[hashed](text)))
        return found


def _root_key(namespace: str, root: str) -> bytes:
    """A multihash, or the name of a domain in small letters. Raises BadRule, InvalidCid."""
    try:
        return Cid.parse(root).multihash
    except InvalidCid:
        pass
    try:
        raw = base58.b58decode(root)
        return Cid.from_bytes(b"\x01\x72" + raw).multihash  # a bare multihash: 12D3…, Qm…
    except ValueError:
        pass
    if namespace == "ipfs":
        raise BadRule("not a CID")
    return b"/" + root.lower().rstrip(".").encode("utf-8", "surrogateescape")


def _covering(rules: Iterable[_PathRule], path: str) -> Verdict | None:
    found: Verdict | None = None
    for rule in rules:
        if rule.covers(path):
            found = rule.verdict  # rules stand in their order
    return found


def _later(one: Verdict | None, other: Verdict | None) -> Verdict | None:
    if one is None or other is None:
        return one or other
    return max(one, other)


def _judge(found: Verdict | None, what: str) -> None:
    if found is not None and not found.allow:
        kind = DeniedByLaw if found.status == HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS else Denied
        raise kind(f"{what} is blocked and cannot be provided")


def _status(hints: Mapping[str, str]) -> int:
    """410, or 451 where a hint says so."""
    is_legal = hints.get("gateway_status") == "451" or hints.get("reason") == "legal"
    return HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS if is_legal else HTTPStatus.GONE


def _split(text: str) -> tuple[str, list[str]]:
    """(the header, the lines behind it)."""
    head = text[:HEADER_BYTES_MAX]
    lines = text.split("\n")
    if not any(line.strip() == "---" for line in head.split("\n")):
        return "", lines
    end = next(number for number, line in enumerate(lines) if line.strip() == "---")
    return "\n".join(lines[:end]), lines[end + 1 :]


def _header_hints(header: str) -> dict[str, str]:
    """`hints:` of the header: the lines below it that are indented. Raises BadRule."""
    hints: dict[str, str] = {}
    within = False
    for line in header.split("\n"):
        key, _, value = line.partition(":")
        if not line[:1].isspace():
            within = key.strip() == "hints"
            if key.strip() == "version" and value.strip() != "1":
                raise BadRule(f"a denylist of version {value.strip()[:20]!r} is not known")
        elif within and value.strip():
            hints[key.strip()] = value.strip().strip("'\"")
    return hints
