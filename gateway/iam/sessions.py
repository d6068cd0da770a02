"""Sessions: made by STS, looked up at every request that brings a token.

A token holds the whole session, so nothing is kept of it; what a role or user may do is read from
its rows as they are now, and a session ends early with its role, user or account.
"""

from dataclasses import replace
from functools import lru_cache

import msgspec

from chain.clock import Entropy
from gateway.accounts import new_pair
from gateway.catalog.interface import Catalog, Reader, Space
from gateway.iam import tokens
from gateway.iam.identity import Identity
from gateway.iam.principals import managed_document, role_policies, user_identity
from gateway.iam.rows import RoleRow, arn, place, session_arn
from gateway.iam.tokens import BrokenToken, Session
from gateway.model import Credential
from gateway.policy.document import Kind, Policy
from gateway.policy.kept import kept_policy
from gateway.records import decode_kept
from gateway.s3.errors import ExpiredToken, InvalidToken
from gateway.store import account_of


class Sessions:
    """`key` is this network's own (32 bytes)."""

    def __init__(self, catalog: Catalog, key: bytes, entropy: Entropy) -> None:
        self._catalog = catalog
        self._key = key
        self._entropy = entropy
        self._unseal = lru_cache(maxsize=1024)(lambda token: tokens.unseal(token, key))

    def issue(self, session: Session) -> tuple[Session, str]:
        """A session with an access key and a secret, and its token."""
        access, secret = new_pair(self._entropy, "ASIA")
        made = msgspec.structs.replace(session, access_key=access, secret=secret)
        return made, tokens.seal(made, self._key, self._entropy)

    def credential(self, access_key: str, token: str, now: float) -> Credential:
        """Who has this access key and token. Raises InvalidToken, ExpiredToken."""
        try:
            session = self._unseal(token)
        except BrokenToken:
            raise InvalidToken from None
        if session.access_key != access_key:
            raise InvalidToken
        if now >= session.expires:
            raise ExpiredToken
        with self._catalog.read() as reader:
            raw = reader.get(Space.ACCOUNTS, session.account.encode())
            identity = _identity(reader, session)
        if raw is None or (identity is None and session.kind != "account"):
            raise InvalidToken
        return Credential(access_key, session.secret, account_of(raw), identity, temporary=True)


def _identity(reader: Reader, session: Session) -> Identity | None:
    if session.kind == "account":
        return None
    if session.kind == "user":
        user = user_identity(reader, session.account, session.name)
        if user is None or user.id != session.id:
            return None
        return replace(user, issued=session.issued)
    raw = reader.get(Space.META, place(session.account, RoleRow.kind, session.name))
    row = None if raw is None else decode_kept(RoleRow, raw)
    if row is None or row.id != session.id:
        return None
    policies, limits = role_policies(reader, session.account, row)
    if session.policy or session.policies:
        limits = (*limits, _session_policies(reader, session))
    return Identity(
        "AssumedRole",
        session_arn(session.account, row.name, session.session),
        f"{row.id}:{session.session}",
        role=arn(session.account, row),
        policies=policies,
        limits=limits,
        tags={**row.tags, **session.tags},
        issued=session.issued,
    )


def _session_policies(reader: Reader, session: Session) -> tuple[Policy, ...]:
    """What the session was narrowed to; a managed policy that is gone since says nothing."""
    managed = (managed_document(reader, session.account, one) for one in session.policies)
    documents = (session.policy or None, *managed)
    return tuple(kept_policy(one, Kind.IDENTITY) for one in documents if one is not None)
