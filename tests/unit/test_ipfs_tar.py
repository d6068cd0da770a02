"""Claims about gateway/ipfs/codecs/tar.py."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ipfs.codecs import tar
from gateway.ipfs.errors import NotAcceptable

TOP = "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i"


def opened(*parts: bytes) -> tarfile.TarFile:
    return tarfile.open(
        fileobj=io.BytesIO(b"".join([*parts, tar.END])), mode="r:", errors="surrogateescape"
    )


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=60), max_size=8
    ),
    data=st.binary(max_size=1500),
)
def test_other_readers_see_what_was_put_in(names: list[str], data: bytes) -> None:
    safe = [name.encode("utf-8", "replace").decode() for name in names if name not in {".", ".."}]
    path = "/".join([TOP, *safe])
    parts = [
        tar.directory(TOP),
        tar.file(path + "/f", len(data), 0o640, (1234567890, 5)),
        data,
        tar.padding(len(data)),
        tar.link(path + "/l", b"../elsewhere/\xff"),
    ]
    assert all(len(parts[at]) % tar.BLOCK_BYTES == 0 for at in (0, 1, 4))
    assert len(data + parts[3]) % tar.BLOCK_BYTES == 0
    top, file, link = opened(*parts).getmembers()
    assert (top.name, top.isdir(), top.mode, top.mtime) == (TOP, True, 0o755, 0)
    assert (file.name, file.size, file.mode) == (path + "/f", len(data), 0o640)
    assert file.pax_headers["mtime"] == "1234567890.000000005"
    assert link.issym()
    assert link.linkname == "../elsewhere/\udcff"
    assert opened(*parts).extractfile(file).read() == data  # type: ignore[union-attr]


def test_names_that_are_no_utf_8_keep_their_bytes() -> None:
    [entry] = opened(tar.directory(f"{TOP}/\udcff")).getmembers()
    assert entry.name == f"{TOP}/\udcff"


@pytest.mark.parametrize(
    ("folder", "name", "path"),
    [
        ("", "a", "/a"),
        ("/a", "b c", "/a/b c"),
        ("/a/b", "../file", "/a/file"),
        ("/a", "./x//y", "/a/x/y"),
        ("/a", "/etc/passwd", "/a/etc/passwd"),
    ],
)
def test_names_are_made_plain(folder: str, name: str, path: str) -> None:
    assert tar.Names(TOP).path(TOP + folder, name) == TOP + path


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("", ".."),
        ("", "."),
        ("", ""),
        ("", "../foo"),
        ("", f"../{TOP}x"),
        ("/a", "../../b"),
        ("/a", "../../../etc/passwd"),
        ("", "x\0y"),
        ("", "x" * 5000),
    ],
)
def test_what_would_land_elsewhere_is_refused(folder: str, name: str) -> None:
    with pytest.raises(NotAcceptable):
        tar.Names(TOP).path(TOP + folder, name)


def test_nothing_is_extracted_through_a_link_of_the_tar() -> None:
    names = tar.Names(TOP)
    names.add_link(names.path(TOP, "a"))
    assert names.path(TOP, "ab") == f"{TOP}/ab"
    for name in ("a", "a/b", "c/../a/b"):
        with pytest.raises(NotAcceptable):
            names.path(TOP, name)
