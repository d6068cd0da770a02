"""Accounts as access control lists name them: by id, and by email."""

from collections.abc import Iterable

from gateway.catalog.interface import Reader, Space
from gateway.model import Account
from gateway.store import account_of

ACCOUNTS_MAX = 100_000


def named(reader: Reader, ids: Iterable[str]) -> dict[str, Account]:
    """The accounts of these ids, as far as there are any."""
    found = {}
    for one in ids:
        key = one.encode("utf-8", "surrogatepass")
        raw = reader.get(Space.ACCOUNTS, key) if 0 < len(key) <= 128 else None
        if raw is not None:
            found[one] = account_of(raw)
    return found


def with_emails(reader: Reader, emails: Iterable[str]) -> dict[str, list[Account]]:
    """The accounts of each of these emails, whatever their case: all rows are read, once."""
    found: dict[str, list[Account]] = {email.lower(): [] for email in emails}
    for _, raw in reader.scan(Space.ACCOUNTS, b"\x00", None, ACCOUNTS_MAX):
        account = account_of(raw)
        if account.email.lower() in found:
            found[account.email.lower()].append(account)
    return found
