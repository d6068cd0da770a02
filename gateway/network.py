"""`DIR/run/network.json`: where everything of a running network is. docs/specs/network.md.

The supervisor writes it before it starts anything; children and commands read it.
"""

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chain.errors import InvalidGenesis
from chain.format import write_durably
from chain.genesis import parse as parse_genesis
from chain.genesis import pinned_genesis
from chain.ids import account_id
from gateway.config import Config, ConfigError, profile_of

if TYPE_CHECKING:
    from chain.join import Ledger

FORMAT = 1
SOCKET_PATH_MAX = 96  # sun_path is 108 on Linux, 104 on macOS; ZeroMQ adds nothing
NETWORK_BYTES_MAX = 1 << 20
_LONGEST_SOCKET = "miner-" + "m" * 40 + ".ipc"


class NotRunning(Exception):
    """There is no network at this data directory: one line."""


@dataclass(frozen=True, slots=True)
class MinerPlace:
    """A local miner: its name, directory, address and pledge in bytes."""

    name: str
    data_dir: Path
    address: str
    pledge: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Base URLs; None for a part that is not built."""

    s3: str | None = None
    ipfs: str | None = None
    ipfs_api: str | None = None
    edge: str | None = None
    console: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """One running network on this machine."""

    config: Config
    run_dir: Path  # of the sockets
    miners: tuple[MinerPlace, ...]
    endpoints: Endpoints
    workers: int
    cert: Path | None = None
    key: Path | None = None
    # Of a gateway that joined a ledger elsewhere; "": the ledger is this network's own.
    ledger_address: str = ""
    ledger_identity: str = ""

    @property
    def joined(self) -> bool:
        """Whether the ledger and the miners are others' nodes."""
        return bool(self.ledger_address)

    @property
    def chain_address(self) -> str:
        """Where the ledger node listens."""
        return self.ledger_address or f"ipc://{self.run_dir}/chain.ipc"

    def ledger(self) -> "Ledger":
        """How to reach and check the ledger. Raises ConfigError."""
        from chain.join import Ledger  # brings every transaction: too much for the supervisor

        if not self.joined:
            return Ledger(self.chain_address)
        path = self.genesis_path
        try:
            genesis = parse_genesis(path.read_bytes())
        except (OSError, InvalidGenesis) as error:
            raise ConfigError(f"{path}: {error}") from None
        return Ledger(self.ledger_address, account_id(self.ledger_identity), genesis)

    @property
    def catalog_address(self) -> str:
        """Where the catalog process listens."""
        return f"ipc://{self.run_dir}/catalog.ipc"

    @property
    def profile(self) -> str:
        """The default erasure profile's name."""
        return profile_of(self.config)

    @property
    def credentials_path(self) -> Path:
        """The first account's S3 keys, AWS credentials format."""
        return self.config.data_dir / "credentials"

    @property
    def genesis_path(self) -> Path:
        """The ledger's genesis: the trust anchor of certificates."""
        return pinned_genesis(self.config.data_dir)

    def write(self) -> Path:
        """Write `network.json` and `endpoints.json` into DIR/run, whole or not at all."""
        run = self.config.data_dir / "run"
        document = {"format": FORMAT} | asdict(self)
        write_durably(run / "endpoints.json", _encode(asdict(self.endpoints)), 0o600)
        path = run / "network.json"
        write_durably(path, _encode(document), 0o600)
        return path


def read_network(path: Path) -> Network:
    """What `Network.write` wrote. Raises NotRunning, ConfigError."""
    try:
        raw = path.read_bytes()[: NETWORK_BYTES_MAX + 1]
        document = json.loads(raw)
        if document["format"] != FORMAT:
            raise ConfigError(f"{path}: format {document['format']}, this program knows {FORMAT}")
        return _decode(document)
    except FileNotFoundError:
        raise NotRunning(
            f"no network at {path.parent.parent}: start one with 'cumulus up'"
        ) from None
    except OSError as error:
        raise NotRunning(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged ({error}); start 'cumulus up' anew") from None


def _encode(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, default=str) + "\n").encode()


def _decode(document: Mapping[str, Any]) -> Network:
    raw = dict(document["config"])
    values: dict[str, Any] = {}
    for row in fields(Config):
        value = raw[row.name]
        parse = row.metadata.get("parse") if row.metadata else Path
        assert parse is not None
        values[row.name] = value if value is None else parse(value)
    miners = tuple(
        MinerPlace(str(m["name"]), Path(m["data_dir"]), str(m["address"]), int(m["pledge"]))
        for m in document["miners"]
    )
    paths = {n: Path(document[n]) if document[n] else None for n in ("cert", "key")}
    return Network(
        config=Config(**values),
        run_dir=Path(document["run_dir"]),
        miners=miners,
        endpoints=Endpoints(**document["endpoints"]),
        workers=int(document["workers"]),
        cert=paths["cert"],
        key=paths["key"],
        ledger_address=str(document["ledger_address"]),
        ledger_identity=str(document["ledger_identity"]),
    )


def socket_dir(data_dir: Path) -> Path:
    """A private directory for the network's Unix sockets, made if need be.

    DIR/run unless its path is too long for a socket: then one under the system's temporary
    directory, named after the data directory. Raises ConfigError when somebody else owns it.
    """
    run = data_dir / "run"
    if len(os.fsencode(run / _LONGEST_SOCKET)) > SOCKET_PATH_MAX:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        run = Path(tempfile.gettempdir()) / f"cumulus-{os.getuid()}-{name}"
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = run.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ConfigError(f"{run}: belongs to somebody else; remove it or set TMPDIR")
    run.chmod(0o700)
    return run
