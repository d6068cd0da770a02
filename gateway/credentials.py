"""`DIR/credentials`: the first account's S3 keys in the AWS credentials format, mode 0600."""

import base64
import configparser
from collections.abc import Mapping
from pathlib import Path

from chain.clock import Entropy
from chain.format import write_durably
from gateway.config import ConfigError

KEY_CHARS_MAX = 128


def ensure_credentials(path: Path, environ: Mapping[str, str], entropy: Entropy) -> tuple[str, str]:
    """The key pair: from the environment, else as the file has it, else a new one; written."""
    access, secret = environ.get("CUMULUS_ACCESS_KEY", ""), environ.get("CUMULUS_SECRET_KEY", "")
    if bool(access) != bool(secret):
        raise ConfigError("CUMULUS_ACCESS_KEY and CUMULUS_SECRET_KEY go together")
    if access:
        check_keys(access, secret)
    elif path.exists():
        return read_credentials(path)
    else:
        access, secret = new_keys(entropy)
    write_credentials(path, access, secret)
    return access, secret


def new_keys(entropy: Entropy) -> tuple[str, str]:
    """A fresh pair in the shape of AWS's: 20 and 40 characters."""
    access = base64.b32encode(entropy(10)).decode()
    return "CU" + access + "MS", base64.b64encode(entropy(30)).decode()


def check_keys(access: str, secret: str) -> None:
    """Refuse keys that no signature could carry. Raises ConfigError."""
    for name, least, value in (("access key", 3, access), ("secret key", 8, secret)):
        fits = least <= len(value) <= KEY_CHARS_MAX
        if not fits or not value.isascii() or not value.isprintable():
            raise ConfigError(f"{name}: {least} to {KEY_CHARS_MAX} printable ASCII characters")
        if any(c.isspace() for c in value):
            raise ConfigError(f"{name}: no spaces")
    if any(c in access for c in "/:,="):
        raise ConfigError("access key: none of / : , =")


def write_credentials(path: Path, access: str, secret: str) -> None:
    """Whole or not at all."""
    text = f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
    write_durably(path, text.encode(), 0o600)


def read_credentials(path: Path) -> tuple[str, str]:
    """The default profile's pair. Raises ConfigError."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text("utf-8"))
        section = parser["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise ConfigError(f"{path}: not an AWS credentials file with a [default] pair") from None
