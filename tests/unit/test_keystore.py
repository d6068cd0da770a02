"""Keys in files: private, durable, never replaced."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.clock import Entropy
from chain.keys.identity import Identity, verify
from chain.keys.keystore import InsecureKey, Keystore, KeystoreError, UnknownKey


def counted(seed: int = 0) -> Entropy:
    def entropy(count: int) -> bytes:
        nonlocal seed
        seed += 1
        return bytes([seed]) * count

    return entropy


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    entropy = counted()
    first = Keystore(tmp_path / "keys").identity("miner-1", entropy)
    again = Keystore(tmp_path / "keys").identity("miner-1", entropy)
    assert first.id == again.id
    assert first.seed == bytes([1]) * 32
    assert verify(first.id, b"d", b"m", again.sign(b"d", b"m"))


def test_create_never_replaces(tmp_path: Path) -> None:
    store = Keystore(tmp_path / "keys")
    assert store.create("kek", b"a" * 32) == b"a" * 32
    assert store.create("kek", b"b" * 32) == b"a" * 32
    assert store.secret("kek") == b"a" * 32


def test_a_racing_creator_gets_the_winners_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Keystore(tmp_path / "keys")
    link = Path.hardlink_to

    def after_the_other(path: Path, target: Path) -> None:
        monkeypatch.setattr(Path, "hardlink_to", link)
        store.create("kek", b"w" * 32)
        link(path, target)

    monkeypatch.setattr(Path, "hardlink_to", after_the_other)
    assert store.create("kek", b"l" * 32) == b"w" * 32
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["kek.key"]


def test_files_and_directory_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Keystore(tmp_path / "keys").secret_or_new("kek", counted())
    finally:
        os.umask(before)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "keys" / "kek.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    store = Keystore(tmp_path / "keys")
    store.secret_or_new("kek", counted())
    (tmp_path / "keys" / "kek.key").chmod(mode)
    with pytest.raises(InsecureKey, match="chmod 600"):
        store.secret("kek")


def test_an_open_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    (tmp_path / "keys").chmod(0o755)
    with pytest.raises(InsecureKey, match="chmod 700"):
        Keystore(tmp_path / "keys")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = Keystore(tmp_path / "keys")
    store.secret_or_new("kek", counted())
    (tmp_path / "keys" / "other.key").symlink_to(tmp_path / "keys" / "kek.key")
    with pytest.raises(KeystoreError):
        store.secret("other")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "UPPER", "a" * 101, "a\n", "ø"])
def test_a_name_cannot_leave_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeystoreError, match="no key name"):
        Keystore(tmp_path / "keys").secret(name)


def test_an_unknown_key_says_so_and_names_are_listed(tmp_path: Path) -> None:
    store = Keystore(tmp_path / "keys")
    with pytest.raises(UnknownKey):
        store.secret("kek")
    for name in ("b", "a"):
        store.secret_or_new(name, counted())
    assert store.names() == ["a", "b"]


def test_a_file_in_the_way_is_a_keystore_error(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(KeystoreError):
        Keystore(tmp_path / "keys")


@given(st.binary(max_size=80))
@settings(max_examples=50, deadline=None)
def test_a_damaged_key_file_is_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    directory = tmp_path_factory.mktemp("keys", numbered=True)
    directory.chmod(0o700)
    path = directory / "kek.key"
    path.write_bytes(raw)
    path.chmod(0o600)
    with pytest.raises(KeystoreError, match="damaged"):
        Keystore(directory).secret("kek")


def test_identity_seed_file_is_hexadecimal_text(tmp_path: Path) -> None:
    identity = Keystore(tmp_path / "keys").identity("node", counted(6))
    text = (tmp_path / "keys" / "node.key").read_text()
    assert Identity(bytes.fromhex(text)).id == identity.id
    assert text == "07" * 32 + "\n"
