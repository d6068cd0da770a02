"""`cumulus account …`: users of the store."""

import argparse
from datetime import UTC, datetime

from msgspec import to_builtins

from gateway.commands.limits import add_limits, set_limits
from gateway.commands.options import Parsers, action, group
from gateway.commands.session import ask, network_of, show, table
from gateway.credentials import check_keys, read_credentials, write_credentials
from gateway.network import Network
from gateway.protocol import (
    AccountCreated,
    AccountRecord,
    CreateAccount,
    CreateKmsKey,
    DeleteAccount,
    ListAccounts,
    ListKmsKeys,
    RotateAccessKeys,
    RotateEncryptionKey,
    ShowAccount,
    SwitchKmsKey,
)


def add(parsers: Parsers) -> None:
    """Declare the commands."""
    actions = group(parsers, "account", "users of the store", "cumulus account create ann")
    make = action(actions, "create", create, "make an account", "cumulus account create 'Ann Lee'")
    make.add_argument("name", metavar="NAME", help="display name, at most 128 bytes")
    make.add_argument("--id", default="", help="canonical id (default: generated)")
    make.add_argument("--email", default="")
    make.add_argument("--access-key", default="", metavar="A", help="with --secret-key")
    make.add_argument("--secret-key", default="", metavar="S", help="with --access-key")
    action(actions, "list", list_all, "all accounts", "cumulus account list --json")
    for name, run, text in (
        ("show", show_one, "one account, by name, id or access key"),
        ("rotate-access-keys", rotate_access, "replace its S3 keys by a new pair"),
        ("rotate-encryption-key", rotate_encryption, "begin a new encryption key"),
        ("delete", delete, "remove an account that owns no bucket"),
        ("kms-keys", kms_keys, "the keys that SSE-KMS may name"),
    ):
        parser = action(actions, name, run, text, f"cumulus account {name} ann")
        parser.add_argument("account", metavar="ACCOUNT")
    parser = action(
        actions, "limit", limit, "show or set what its buckets may hold, and how often be asked",
        "cumulus account limit ann --bytes 1TiB --requests 500",
    )  # fmt: skip
    parser.add_argument("account", metavar="ACCOUNT")
    add_limits(parser)
    for name, run, text in (
        ("kms-create", kms_create, "make a key for SSE-KMS"),
        ("kms-disable", kms_disable, "switch one off: what it encrypts is not read or written"),
        ("kms-enable", kms_enable, "switch it on again"),
    ):
        parser = action(actions, name, run, text, f"cumulus account {name} ann team-key")
        parser.add_argument("account", metavar="ACCOUNT")
        parser.add_argument("key", metavar="KEY", help="its id; '' is the account's default key")


def create(options: argparse.Namespace) -> int:
    """Make an account and show its keys, once."""
    if options.access_key or options.secret_key:
        check_keys(options.access_key, options.secret_key)
    message = CreateAccount(
        name=options.name,
        id=options.id,
        email=options.email,
        access_key=options.access_key,
        secret_key=options.secret_key,
    )
    made = ask(network_of(options), message)
    return show(options, made, lambda: _keys(made))


def list_all(options: argparse.Namespace) -> int:
    """Print all accounts."""
    found = ask(network_of(options), ListAccounts()).accounts
    rows: list[tuple[object, ...]] = [(a.name, a.id, a.email) for a in found]
    plain = [{"name": a.name, "id": a.id, "email": a.email} for a in found]
    return show(options, plain, lambda: table(("NAME", "ID", "EMAIL"), rows))


def show_one(options: argparse.Namespace) -> int:
    """Print one account."""
    found = ask(network_of(options), ShowAccount(options.account))
    return show(
        options, found, lambda: "\n".join(f"{k:<12} {v}" for k, v in _record(found).items())
    )


def rotate_access(options: argparse.Namespace) -> int:
    """Replace key pairs; DIR/credentials follows when it held one of them."""
    network = network_of(options)
    before = ask(network, ShowAccount(options.account))
    made = ask(network, RotateAccessKeys(options.account))
    _follow(network, before, made)
    return show(options, made, lambda: _keys(made))


def _follow(network: Network, before: AccountRecord, made: AccountCreated) -> None:
    if read_credentials(network.credentials_path)[0] in before.access_keys:
        write_credentials(network.credentials_path, made.access_key, made.secret_key)


def rotate_encryption(options: argparse.Namespace) -> int:
    """Begin a new account key-encryption key."""
    ask(network_of(options), RotateEncryptionKey(options.account))
    return show(options, {"account": options.account, "rotated": True}, lambda: "rotated")


def limit(options: argparse.Namespace) -> int:
    """Show or set an account's limits."""
    return set_limits(options, account=options.account)


def delete(options: argparse.Namespace) -> int:
    """Remove an account."""
    ask(network_of(options), DeleteAccount(options.account))
    return show(options, {"account": options.account, "deleted": True}, lambda: "deleted")


def kms_keys(options: argparse.Namespace) -> int:
    """Print an account's KMS keys."""
    found = ask(network_of(options), ListKmsKeys(options.account)).keys
    rows: list[tuple[object, ...]] = [
        (key.id, datetime.fromtimestamp(key.created_ns / 1e9, UTC).isoformat(" ", "seconds"),
         "disabled" if key.disabled else "enabled")
        for key in found
    ]  # fmt: skip
    plain = [to_builtins(key) for key in found]
    return show(options, plain, lambda: table(("KEY", "CREATED", "STATE"), rows))


def kms_create(options: argparse.Namespace) -> int:
    """Make a KMS key."""
    ask(network_of(options), CreateKmsKey(options.account, options.key))
    return show(options, {"key": options.key, "created": True}, lambda: "created")


def kms_disable(options: argparse.Namespace) -> int:
    """Switch a KMS key off."""
    return _switch(options, disabled=True)


def kms_enable(options: argparse.Namespace) -> int:
    """Switch a KMS key on."""
    return _switch(options, disabled=False)


def _switch(options: argparse.Namespace, *, disabled: bool) -> int:
    ask(network_of(options), SwitchKmsKey(options.account, options.key, disabled))
    word = "disabled" if disabled else "enabled"
    return show(options, {"key": options.key, "state": word}, lambda: word)


def _record(account: AccountRecord) -> dict[str, object]:
    return {
        "name": account.name,
        "id": account.id,
        "email": account.email,
        "access_keys": account.access_keys,
    }


def _keys(made: AccountCreated) -> str:
    return (
        f"name                  {made.account.name}\n"
        f"id                    {made.account.id}\n"
        f"aws_access_key_id     {made.access_key}\n"
        f"aws_secret_access_key {made.secret_key}"
    )
