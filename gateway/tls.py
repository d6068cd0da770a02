"""`--tls self-signed`: a certificate authority of this network's own, and a server certificate.

`DIR/tls/ca.pem` is what clients trust; `cert.pem` and `key.pem` serve. The certificate is made
anew when its names change or its end is near; the authority stays.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chain.clock import Clock
from chain.format import write_durably
from gateway.config import ConfigError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # the longest that Apple's clients accept
RENEW_DAYS = 30
ALWAYS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files; `authority` None for certificates from elsewhere."""

    cert: Path
    key: Path
    authority: Path | None = None


def ensure_self_signed(folder: Path, domains: Sequence[str], host: str, clock: Clock) -> TlsFiles:
    """The authority and a valid certificate for `domains` (with wildcards) and `host`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.datetime.fromtimestamp(clock.now_ns() // 10**9, datetime.UTC)
    files = TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    names = _names(domains, host)
    try:
        key, authority = _authority(folder, now)
        if not _still_good(files, names, authority, now):
            _issue(files, names, key, authority, now)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"--tls self-signed: {folder}: {error}; remove it to begin anew"
        ) from None
    return files


def _names(domains: Sequence[str], host: str) -> list[x509.GeneralName]:
    wanted = dict.fromkeys([*ALWAYS, host, *(d for name in domains for d in (name, f"*.{name}"))])
    names: list[x509.GeneralName] = []
    for name in wanted:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return names


def _authority(
    folder: Path, now: datetime.datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    cert_path, key_path = folder / "ca.pem", folder / "ca-key.pem"
    if cert_path.exists() and key_path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("ca-key.pem is not an elliptic curve key")
        return key, x509.load_pem_x509_certificate(cert_path.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cumulus local authority")])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    cert = (
        _begin(subject, subject, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    write_durably(key_path, _private(key), 0o600)
    write_durably(cert_path, cert.public_bytes(serialization.Encoding.PEM), 0o644)
    return key, cert


def _still_good(
    files: TlsFiles,
    names: list[x509.GeneralName],
    authority: x509.Certificate,
    now: datetime.datetime,
) -> bool:
    if not (files.cert.exists() and files.key.exists()):
        return False
    cert = x509.load_pem_x509_certificate(files.cert.read_bytes())
    found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    fresh = cert.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
    return fresh and list(found) == names and cert.issuer == authority.subject


def _issue(
    files: TlsFiles,
    names: list[x509.GeneralName],
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    now: datetime.datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Cumulus")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    cert = (
        _begin(subject, authority.subject, key, now, SERVER_DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(server, critical=False)
        .add_extension(issuer, critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_durably(files.key, _private(key), 0o600)
    write_durably(files.cert, cert.public_bytes(serialization.Encoding.PEM), 0o644)


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
