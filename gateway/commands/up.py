"""`cumulus up`: the whole network in the foreground."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chain.clock import Clock, SystemClock, system_entropy
from chain.format import write_mark
from chain.keys.identity import Identity
from chain.keys.keystore import Keystore, KeystoreError
from chain.net.address import advertised, with_identity
from gateway import locks
from gateway.commands.options import add_config_options
from gateway.config import NODE_ROWS, Config, ConfigError, resolve
from gateway.health import ready
from gateway.launch import commands, owner_of, prepare
from gateway.listeners import Listener, open_listeners
from gateway.logs import Journal
from gateway.network import Network
from gateway.spawning import spawner_here
from gateway.supervisor import Command, Supervisor

if TYPE_CHECKING:
    from chain.join import Ledger

READY_EVERY = 0.2
EXAMPLE = "cumulus up --data-dir ./data --s3-port 9100"

# (network, listeners, inherited descriptors) -> children; tests put stand-ins here.
Commands = Callable[[Network, Sequence[Listener], Sequence[int]], list[Command]]


def add(parsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `up`."""
    parser = parsers.add_parser(
        "up",
        help="run a whole network here",
        description="Run a whole network on this machine.",
        epilog=f"example: {EXAMPLE}",
    )
    add_config_options(parser, NODE_ROWS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit code 0 after an orderly end. Raises ConfigError."""
    config = resolve(vars(options), os.environ)
    if config.join:
        raise ConfigError("a network of its own joins no ledger: use cumulus gateway --join")
    return asyncio.run(up(config, SystemClock()))


async def up(config: Config, clock: Clock, make: Commands = commands) -> int:
    """Run the network until SIGTERM or SIGINT."""
    run_dir = config.data_dir / "run"
    lock = locks.take_network(config.data_dir)
    for stale in ("endpoints.json", "network.json"):
        (run_dir / stale).unlink(missing_ok=True)
    write_mark(run_dir / "supervisor.pid", f"{os.getpid()}\n".encode())
    inherited: list[int] = []
    try:
        ledger = await _joined(config, clock) if config.join else None
        children_lock = await locks.take_children(config.data_dir, clock)
        listeners = open_listeners(config)
        lifeline, writer = os.pipe()
        inherited = [lifeline, children_lock]
        network = prepare(config, listeners, os.environ, clock, system_entropy, ledger)
        journal = Journal(config.data_dir / "logs" / "supervisor.log", sys.stdout, clock)
        refused = await _keep(network, make(network, listeners, inherited), clock, journal)
        os.close(writer)
        if refused:
            raise ConfigError(refused)
        return 0
    finally:
        for descriptor in inherited:
            os.close(descriptor)
        _forget(run_dir)
        lock.release()


async def _joined(config: Config, clock: Clock) -> "Ledger":
    """The ledger of `--join`, its genesis pinned. Raises ConfigError."""
    from chain.join import join_as  # the ledger's client: a network of its own needs none here
    from chain.process import NodeError

    try:
        keys = Keystore(config.data_dir / "keys")
        identity = keys.identity("gateway", system_entropy)
        return await join_as(identity, config.join, config.data_dir, clock, config.genesis)
    except (NodeError, KeystoreError) as error:
        raise ConfigError(str(error)) from None


def _forget(run_dir: Path) -> None:
    for name in ("endpoints.json", "network.json", "processes.json", "supervisor.pid"):
        (run_dir / name).unlink(missing_ok=True)


async def _keep(
    network: Network, children: Sequence[Command], clock: Clock, journal: Journal
) -> str:
    """Run the children; why they refuse to run, "" after an orderly end."""
    processes = network.config.data_dir / "run" / "processes.json"

    def note() -> None:
        state = {
            c.command.name: {"pid": c.pid, "restarts": c.restarts} for c in supervisor.children
        }
        write_mark(processes, json.dumps({"processes": state}).encode())

    logs = network.config.data_dir / "logs"
    held = sorted({descriptor for child in children for descriptor in child.pass_fds})
    supervisor = Supervisor(
        children, logs, clock, journal, on_change=note, spawner=spawner_here(held)
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    journal.info("starting", endpoints=network.endpoints.s3, miners=len(network.miners))
    journal.say(f"starting {len(children)} processes; data in {network.config.data_dir}")
    if network.joined:
        journal.say(joined_hint(network))
    async with asyncio.TaskGroup() as group:
        greeting = group.create_task(_greet(network, clock, journal))
        await supervisor.run()
        greeting.cancel()
    journal.info("stopped", refused=supervisor.refused)
    if not supervisor.refused:
        journal.say("stopped")
    return supervisor.refused


async def _greet(network: Network, clock: Clock, journal: Journal) -> None:
    """Say what to try, once the network is ready."""
    console = network.endpoints.console
    begun = clock.monotonic()
    while console and not await ready(console):
        await clock.sleep(READY_EVERY)
    journal.info("ready", seconds=round(clock.monotonic() - begun, 2))
    journal.say(greeting(network))


def joined_hint(network: Network) -> str:
    """What a gateway elsewhere needs before it can store, and how edges reach it."""
    config = network.config
    keys = Keystore(config.data_dir / "keys")
    node = Identity(keys.secret("gateway")).id
    face = with_identity(node, advertised(config.listen, config.advertise) or config.listen)
    return (
        f"account on the ledger {owner_of(config.data_dir).id.hex()}; without a lease nothing is"
        f" stored:\n  cumulus market lease --size 10GiB --data-dir {config.data_dir}\n"
        f"edges take it as --origin {face}"
    )


def greeting(network: Network) -> str:
    """What a person may try next, with this network's own addresses."""
    ends = network.endpoints
    trust = ""
    if network.config.tls:
        trust = f"  export AWS_CA_BUNDLE={network.config.data_dir}/tls/ca.pem\n"
    return f"""ready

  export AWS_SHARED_CREDENTIALS_FILE={network.credentials_path} AWS_DEFAULT_REGION=us-east-1
  export AWS_ENDPOINT_URL={ends.s3}
{trust}  aws s3 mb s3://photos
  aws s3 cp --recursive ./pictures s3://photos/
  cumulus ipfs publish photos on         then open {ends.ipfs}/ipfs/CID
  cumulus status

Ctrl-C stops it; the data stays."""
