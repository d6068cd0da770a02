"""From a configuration to the commands of a network's processes."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chain.clock import Clock, Entropy
from chain.config import OPERATOR
from chain.format import write_durably
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore, KeystoreError
from gateway.config import GIB, MIB, Config, ConfigError
from gateway.credentials import ensure_credentials
from gateway.listeners import Listener
from gateway.network import Endpoints, MinerPlace, Network, socket_dir
from gateway.supervisor import Command

if TYPE_CHECKING:
    from chain.join import Ledger

PLEDGE_MAX, PLEDGE_MIN = 64 * GIB, 256 * MIB
PLEDGE_SHARE = 0.8  # of the free space, over all miners of one file system


def prepare(
    config: Config,
    listeners: Sequence[Listener],
    environ: Mapping[str, str],
    clock: Clock,
    entropy: Entropy,
    ledger: "Ledger | None" = None,
) -> Network:
    """Everything that must be on disk before the first child starts. Raises ConfigError.

    With a `ledger` elsewhere there are no miners here either: they are on that ledger.
    """
    (config.data_dir / "run").mkdir(parents=True, exist_ok=True, mode=0o700)
    cert, key = _certificate(config, clock)
    run_dir = socket_dir(config.data_dir)
    network = Network(
        config=config,
        run_dir=run_dir,
        miners=() if ledger else _miners(config, run_dir),
        endpoints=Endpoints(**{listener.face: listener.url for listener in listeners}),
        workers=config.workers or os.cpu_count() or 1,
        cert=cert,
        key=key,
        ledger_address=ledger.address if ledger else "",
        ledger_identity=ledger.identity.hex() if ledger and ledger.identity else "",
    )
    Keystore(config.data_dir / "keys").identity(OPERATOR, entropy)
    ensure_credentials(network.credentials_path, environ, entropy)
    network.write()
    return network


def commands(
    network: Network, listeners: Sequence[Listener], inherited: Sequence[int]
) -> list[Command]:
    """The children. `inherited` is the lifeline's read end, then other descriptors they hold."""
    lifeline = ("--lifeline", str(inherited[0]))
    keep = tuple(inherited)
    python = (sys.executable, "-m")
    data_dir = network.config.data_dir
    where = ("--network", str(data_dir / "run" / "network.json"))
    result: list[Command] = []
    scrub = _scrub(network.config)
    if not network.joined:
        chain = ("chain", "--data-dir", str(data_dir), "--listen", network.chain_address)
        operator = ("--operator", owner_of(data_dir).id.hex())
        result.append(Command("chain", (*python, *chain, *operator, *lifeline), 3, keep))
    for miner in network.miners:
        options = ("--data-dir", str(miner.data_dir), "--name", miner.name)
        places = ("--listen", miner.address, "--join", network.chain_address)
        owner = ("--owner", network.catalog_address)
        pledge = ("--pledge", str(miner.pledge))
        argv = [*python, "miner", *options, *places, *owner, *pledge, *scrub, *lifeline]
        result.append(Command(f"miner-{miner.name}", argv, 2, keep, spare=True))
    result.append(Command("catalog", (*python, "gateway", "catalog", *where, *lifeline), 1, keep))
    result.append(Command("repair", (*python, "gateway", "repair", *where, *lifeline), 0, keep))
    if network.config.background != "off":
        result.append(Command("jobs", (*python, "gateway", "jobs", *where, *lifeline), 0, keep))
    fds = {listener.face: listener.socket.fileno() for listener in listeners}
    sockets = ("--fds", ",".join(f"{face}={fd}" for face, fd in fds.items()))
    worker = (*python, "gateway", "worker", *where, *sockets, *lifeline)
    held = (*keep, *fds.values())
    numbers = range(1, network.workers + 1)
    return result + [Command(f"worker-{number}", worker, 0, held) for number in numbers]


def _scrub(config: Config) -> tuple[str, ...]:
    rate = 0 if config.background == "off" else config.scrub_rate
    return ("--scrub-rate", str(rate), "--scrub-cycle", str(config.scrub_cycle))


def owner_of(data_dir: Path) -> Identity:
    """The network's owner on the ledger: made before the first start. Raises ConfigError."""
    try:
        return Identity(Keystore(data_dir / "keys").secret(OPERATOR))
    except KeystoreError as error:
        raise ConfigError(str(error)) from None


def _certificate(config: Config, clock: Clock) -> tuple[Path | None, Path | None]:
    """PEM files of the certificate and its key; None without TLS."""
    if not config.tls:
        return config.tls_cert, config.tls_key
    from gateway.tls import ensure_self_signed  # x509 takes 0.08 CPU s: not for a start without

    files = ensure_self_signed(config.data_dir / "tls", config.s3_domain, config.host, clock)
    return files.cert, files.key


def _miners(config: Config, run_dir: Path) -> tuple[MinerPlace, ...]:
    count = len(config.disk) or config.miners
    names = [f"m{n}" for n in range(1, count + 1)]
    folders = config.disk or tuple(config.data_dir / "miners" / name for name in names)
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        pledges = _pledges(config, folders)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return tuple(
        MinerPlace(name, folder, f"ipc://{run_dir}/miner-{name}.ipc", pledges[str(folder)])
        for name, folder in zip(names, folders, strict=True)
    )


def _pledges(config: Config, folders: Sequence[Path]) -> dict[str, int]:
    """Bytes per miner directory. A default that was once chosen stays: it is on the ledger."""
    if config.pledge is not None:
        return {str(folder): config.pledge for folder in folders}
    path = config.data_dir / "pledges.json"
    kept: dict[str, int] = {}
    if path.exists():
        try:
            kept = {str(k): int(v) for k, v in json.loads(path.read_bytes()).items()}
        except (ValueError, AttributeError):
            raise ConfigError(f"{path}: damaged; remove it or say --pledge SIZE") from None
    changed = False
    devices = [folder.stat().st_dev for folder in folders]
    for folder, device in zip(folders, devices, strict=True):
        if str(folder) not in kept:
            share = int(shutil.disk_usage(folder).free * PLEDGE_SHARE) // devices.count(device)
            kept[str(folder)] = max(PLEDGE_MIN, min(PLEDGE_MAX, share // MIB * MIB))
            changed = True
    if changed:
        write_durably(path, json.dumps(kept, indent=1).encode(), 0o600)
    return kept
