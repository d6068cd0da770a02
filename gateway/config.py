"""What `cumulus up` may be told: one frozen value, checked at the door.

Every setting has one row: its field. The row knows its place in `cumulus.toml`, its environment
variable (`CUMULUS_` and the field's name), its command-line option and its parser. The strongest
word wins: command line > environment > file > default.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from chain.net.address import advertised, split_identity
from chain.net.rpc import AddressError
from gateway.events.places import Endpoint, Webhook, parse_endpoints, parse_webhooks
from gateway.values import (
    optional,
    parse_between,
    parse_bool,
    parse_choice,
    parse_links,
    parse_path,
    parse_paths,
    parse_period,
    parse_port,
    parse_resolver,
    parse_seconds,
    parse_size,
    parse_text,
    parse_texts,
)

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
DEFAULT_DATA_DIR = "~/.local/share/cumulus"
MINERS_MAX = 256
WORKERS_MAX = 256


class ConfigError(Exception):
    """A setting is wrong: one line that names it and says what would be right."""


def _row(
    default: Any, parse: Callable[[object], Any], toml: str, flag: str = "", help: str = ""
) -> Any:
    meta = {"parse": parse, "toml": toml, "flag": flag, "help": help}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything `cumulus up` may be told. Sizes are bytes, durations seconds."""

    data_dir: Path
    host: str = _row("127.0.0.1", parse_text, "host", "--host", "address to listen on")
    s3_port: int = _row(9000, parse_port, "s3.port", "--s3-port", "S3, IAM and STS")
    s3_domain: tuple[str, ...] = _row(
        ("localhost",), parse_texts, "s3.domains", "--s3-domain", "virtual-hosted buckets below it"
    )
    s3_region: str = _row("", parse_text, "s3.region", "--s3-region", "only this signing region")
    s3_sigv2: bool = _row(True, parse_bool, "s3.sigv2")
    s3_etag: str = _row("md5", parse_choice("md5", "crc64nvme"), "s3.etag")
    s3_sse_requires_tls: bool = _row(False, parse_bool, "s3.sse_requires_tls")
    s3_kms_auto_create: bool = _row(True, parse_bool, "s3.kms_auto_create")
    lifecycle_day_seconds: float = _row(86400.0, parse_period, "s3.lifecycle_day_seconds")
    logging_roll_seconds: float = _row(3600.0, parse_period, "s3.logging_roll_seconds")
    ipfs_port: int = _row(8080, parse_port, "ipfs.port", "--ipfs-port", "IPFS HTTP gateway")
    ipfs_api_port: int = _row(
        5001, parse_port, "ipfs.api_port", "--ipfs-api-port", "Kubo RPC and pinning service"
    )
    ipfs_publish_new_buckets: bool = _row(False, parse_bool, "ipfs.publish_new_buckets")
    ipfs_dnslinks: Mapping[str, str] = _row({}, parse_links, "ipfs.dnslinks")
    ipfs_subdomain_hosts: tuple[str, ...] = _row(
        ("localhost",), parse_texts, "ipfs.subdomain_hosts"
    )
    ipfs_dns_resolver: str = _row("off", parse_resolver, "ipfs.dns_resolver")
    ipfs_denylist: tuple[Path, ...] = _row((), parse_paths, "ipfs.denylist")
    ipfs_timeout: float = _row(30.0, parse_period, "ipfs.timeout")
    ipfs_requests_max: int = _row(1024, parse_between(1, 1 << 20), "ipfs.requests_max")
    ipfs_client_requests_max: int = _row(256, parse_between(1, 1 << 20), "ipfs.client_requests_max")
    ipfs_range_size_max: int | None = _row(None, optional(parse_size), "ipfs.range_size_max")
    ipfs_offline: bool = _row(True, parse_bool, "ipfs.offline")
    ipfs_fetch_from: tuple[str, ...] = _row((), parse_texts, "ipfs.fetch_from")
    edge_port: int = _row(8081, parse_port, "edge.port", "--edge-port", "the edge's HTTP face")
    console_port: int = _row(
        9001, parse_port, "console.port", "--console-port", "console, metrics, health"
    )
    miners: int = _row(
        6, parse_between(1, MINERS_MAX), "miners", "--miners", "local storage miners"
    )
    profile: str = _row(
        "auto",
        parse_choice("auto", "cess", "standard", "wide", "small", "mirror"),
        "profile",
        "--profile",
        "erasure profile; auto: small from six miners on, mirror from three",
    )
    unsafe: bool = _row(
        False, parse_bool, "unsafe", "--unsafe", "allow fewer miners than a profile needs"
    )
    disk: tuple[Path, ...] = _row(
        (), parse_paths, "disks", "--disk", "one miner in each directory instead of --miners"
    )
    pledge: int | None = _row(
        None,
        optional(parse_size),
        "pledge",
        "--pledge",
        "space pledged per miner (default: free space, bounded)",
    )
    workers: int = _row(
        0, parse_between(0, WORKERS_MAX), "workers", "--workers", "gateway processes (0: cores)"
    )
    background: str = _row(
        "gentle",
        parse_choice("full", "gentle", "off"),
        "background",
        "--background",
        "proofs, audits, scrub and jobs of buckets: full, gentle or off",
    )
    tls: str = _row("", parse_choice("", "self-signed"), "tls.mode", "--tls", "self-signed")
    tls_cert: Path | None = _row(  # noqa: RUF009 - _row makes a field
        None, optional(parse_path), "tls.cert", "--tls-cert", "certificate chain (PEM)"
    )
    tls_key: Path | None = _row(  # noqa: RUF009 - _row makes a field
        None, optional(parse_path), "tls.key", "--tls-key", "private key (PEM)"
    )
    join: str = _row(
        "",
        parse_text,
        "node.join",
        "--join",
        "a ledger node: ID@HOST:PORT as 'cumulus chain' printed it; HOST:PORT with --genesis",
    )
    genesis: Path | None = _row(  # noqa: RUF009 - _row makes a field
        None,
        optional(parse_path),
        "node.genesis",
        "--genesis",
        "a copy of the ledger's chain/genesis.json",
    )
    listen: str = _row(
        "tcp://127.0.0.1:4702",
        parse_text,
        "node.listen",
        "--listen",
        "where miners and edges ask this gateway",
    )
    advertise: str = _row(
        "", parse_text, "node.advertise", "--advertise", "HOST:PORT where they reach it"
    )
    edge: str = _row(
        "",
        parse_text,
        "node.edge",
        "--edge",
        "ID@HOST:PORT of an edge to read through",
    )
    notify: Mapping[str, Webhook] = _row({}, parse_webhooks, "notify")
    replication: Mapping[str, Endpoint] = _row({}, parse_endpoints, "replication")
    inline_max: int = _row(16 * KIB, parse_size, "catalog.inline_max")
    repair_grace: float = _row(600.0, parse_seconds, "repair.grace")
    repair_rate: int = _row(GIB, parse_size, "repair.rate")
    repair_survey: float = _row(86400.0, parse_period, "repair.survey")
    scrub_rate: int = _row(20 * MIB, parse_size, "scrub.rate")
    scrub_cycle: float = _row(14 * 86400.0, parse_period, "scrub.cycle")

    @property
    def secure(self) -> bool:
        """Whether the HTTP ports speak TLS."""
        return bool(self.tls) or self.tls_cert is not None


# Settings of a gateway on a ledger of its own choice, and those of what runs beside `cumulus up`'s.
NODE_ROWS = frozenset(("join", "genesis", "listen", "advertise", "edge"))
LOCAL_ROWS = frozenset(("miners", "disk", "pledge", "unsafe", "background", "edge_port")) | {
    "scrub_rate",
    "scrub_cycle",
}
Resolver = Mapping[str, object]
ROWS = {f.name: f for f in fields(Config) if f.metadata}


def flag_of(name: str) -> str:
    """What a person calls a setting: its option, else its place in the file."""
    meta = ROWS[name].metadata
    return str(meta["flag"] or f"[{meta['toml'].replace('.', '] ')}")


def resolve(
    options: Mapping[str, object], environ: Mapping[str, str], *, need_file: bool = False
) -> Config:
    """The configuration that options (None = not given), environment and file make together.

    `options` holds `data_dir` and `config` besides the fields. Raises ConfigError.
    """
    chosen = options.get("data_dir") or environ.get("CUMULUS_DATA_DIR") or DEFAULT_DATA_DIR
    data_dir = _parsed("--data-dir", parse_path, chosen)
    named = options.get("config") or environ.get("CUMULUS_CONFIG")
    path = _parsed("--config", parse_path, named) if named else data_dir / "cumulus.toml"
    values: dict[str, Any] = {"data_dir": data_dir}
    for name, raw in read_file(path, missing_ok=not (named or need_file)).items():
        values[name] = _parsed(f"{path}: {flag_of(name)}", ROWS[name].metadata["parse"], raw)
    for name, row in ROWS.items():
        variable = f"CUMULUS_{name.upper()}"
        if variable in environ:
            values[name] = _parsed(variable, row.metadata["parse"], environ[variable])
        if options.get(name) is not None:
            values[name] = _parsed(flag_of(name), row.metadata["parse"], options[name])
    config = Config(**values)
    _check(config)
    return config


def read_file(path: Path, *, missing_ok: bool) -> dict[str, object]:
    """`cumulus.toml` as raw values by field name. Unknown keys are refused with a suggestion."""
    try:
        if path.stat().st_size > MIB:
            raise ConfigError(f"--config {path}: the file is larger than 1 MiB")
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if missing_ok:
            return {}
        raise ConfigError(f"--config {path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: not valid TOML: {error}") from None
    places = {row.metadata["toml"]: name for name, row in ROWS.items()}
    found: dict[str, object] = {}
    for place, value in _leaves(document, set(places)):
        if place not in places:
            near = difflib.get_close_matches(place, places, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--config {path}: unknown setting {place}{hint}")
        found[places[place]] = value
    return found


def _leaves(document: Mapping[str, Any], known: set[str]) -> list[tuple[str, object]]:
    leaves: list[tuple[str, object]] = []
    for name, value in document.items():
        if isinstance(value, dict) and name not in known:
            leaves += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            leaves.append((name, value))
    return leaves


def _parsed(label: str, parse: Callable[[object], Any], raw: object) -> Any:
    try:
        return parse(raw)
    except ValueError as error:
        shown = "" if isinstance(raw, Mapping) else f" {str(raw)[:60]!r}"  # tables hold secrets
        raise ConfigError(f"{label}{shown}: {error}") from None


def _check(config: Config) -> None:
    """What no single setting can know."""
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigError("--tls-cert and --tls-key go together")
    if config.tls and config.tls_cert:
        raise ConfigError("--tls self-signed and --tls-cert exclude each other")
    for name, file in (("--tls-cert", config.tls_cert), ("--tls-key", config.tls_key)):
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigError(f"{name} {file}: cannot be read")
    ports: dict[int, str] = {}
    for name in ("s3_port", "ipfs_port", "console_port", "edge_port", "ipfs_api_port"):
        port = getattr(config, name)
        if port and port in ports:
            raise ConfigError(f"{flag_of(name)} {port}: taken by {flag_of(ports[port])}")
        ports[port] = name
    if len(set(config.disk)) != len(config.disk):
        raise ConfigError("--disk: each directory holds one miner; one is named twice")
    if config.join:
        _check_addresses(config)
    profile_of(config)


def _check_addresses(config: Config) -> None:
    try:
        advertised(config.listen, config.advertise)
        if config.edge and split_identity(config.edge)[0] is None:
            raise ConfigError(f"--edge {config.edge}: ID@HOST:PORT is expected")
    except AddressError as error:
        raise ConfigError(str(error)) from None


# Distinct failure domains that a profile wants: k + m shards.
PROFILE_WIDTH = {"cess": 12, "standard": 12, "wide": 20, "small": 6, "mirror": 3}


def miner_count(config: Config) -> int:
    """How many local miners run."""
    return len(config.disk) or config.miners


def profile_of(config: Config) -> str:
    """The network's default erasure profile. Raises ConfigError when miners are too few.

    Of a gateway that joined a ledger, whose miners come and go, `auto` is `small`.
    """
    if config.join:
        return "small" if config.profile == "auto" else config.profile
    count = miner_count(config)
    name = config.profile
    if name == "auto":
        name = "small" if count >= PROFILE_WIDTH["small"] else "mirror"
    if count < PROFILE_WIDTH[name] and not config.unsafe:
        raise ConfigError(
            f"--miners {count}: profile {name} needs {PROFILE_WIDTH[name]};"
            " add miners, or --unsafe for a test network that may lose data"
        )
    return name
