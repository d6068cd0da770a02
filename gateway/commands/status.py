"""`cumulus status`: what runs, where, and how it is."""

import argparse
import asyncio
import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from chain.net.transport import RemoteError, Unreachable
from chain.tokens import tokens_text
from gateway.commands.options import Parsers, action
from gateway.commands.session import ask, network_of, show, size_text, table
from gateway.health import report
from gateway.network import Network
from gateway.protocol import NetworkState, NodeState, ShowNetwork


def add(parsers: Parsers) -> None:
    """Declare the command."""
    action(parsers, "status", status, "what runs and how it is", "cumulus status --json")


def status(options: argparse.Namespace) -> int:
    """Print the state; exit code 1 when the network is not ready."""
    network = network_of(options)
    found = collect(network)
    show(options, found, lambda: _text(found))
    return 0 if found["ready"] else 1


def collect(network: Network) -> dict[str, Any]:
    """Everything that is known, as plain values."""
    state = _ask(network)
    console = network.endpoints.console
    health = asyncio.run(report(console)) if console else {}
    known = {(n.kind, n.name): n for n in state.nodes} if state else {}
    nodes = []
    for name, entry in _processes(network).items():
        kind, _, short = name.partition("-")
        node = known.get((kind, short))
        figures = _figures(node) if node and kind == "miner" else {}
        nodes.append({"name": name, "kind": kind, **entry, **figures})
    nodes += _elsewhere(state) if state and network.joined else []
    return {
        "ready": health.get("ready") is True,
        "missing": health.get("missing", ["no answer from the console port"] if console else []),
        "data_dir": str(network.config.data_dir),
        "endpoints": asdict(network.endpoints),
        "profile": network.profile,
        "nodes": nodes,
        "height": state.height if state else None,
        "price": state.price if state else None,
        "space": {
            "pledged": sum(n.pledged for n in state.nodes) if state else None,
            "used": sum(n.used for n in state.nodes) if state else None,
        },
        "repair": {
            "pending_fragments": state.pending_fragments if state else None,
            "rebuilt_fragments": state.rebuilt_fragments if state else None,
            "crowded_fragments": state.crowded_fragments if state else None,
        },
        "jobs": [msgspec.structs.asdict(job) for job in state.jobs] if state else [],
        "queues": [msgspec.structs.asdict(queue) for queue in state.queues] if state else [],
    }


def _figures(node: NodeState) -> dict[str, int]:
    return {
        "pledged": node.pledged,
        "used": node.used,
        "scrubbed_ns": node.scrubbed_ns,
        "damaged": node.damaged,
    }


def _elsewhere(state: NetworkState) -> list[dict[str, Any]]:
    """Nodes of a ledger that this gateway joined: no processes of this machine."""
    return [
        {
            "name": node.name if node.kind == "chain" else f"{node.kind}-{node.name}",
            "kind": node.kind,
            "pid": None,
            "restarts": 0,
            "up": node.up,
            **_figures(node),
        }
        for node in state.nodes
    ]


def _ask(network: Network) -> NetworkState | None:
    try:
        return ask(network, ShowNetwork(), seconds=5.0)
    except (Unreachable, RemoteError):
        return None


class _Processes(msgspec.Struct):
    """`run/processes.json`, written by the supervisor."""

    processes: dict[str, dict[str, int | None]]


def _processes(network: Network) -> dict[str, dict[str, int | None]]:
    path = network.config.data_dir / "run" / "processes.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Processes).processes
    except (OSError, msgspec.DecodeError, json.JSONDecodeError):
        return {}


def repair_text(repair: dict[str, Any]) -> str:
    """`3 fragments pending, 120 rebuilt`, and how many are crowded if any are."""
    text = f"{repair['pending_fragments']} fragments pending, {repair['rebuilt_fragments']} rebuilt"
    crowded = repair["crowded_fragments"]
    return f"{text}, {crowded} crowded until there is another miner" if crowded else text


def job_text(job: dict[str, Any]) -> str:
    """`lifecycle 12 done, last pass ended 2026-11-20 00:10` or why it cannot go on."""
    text = f"{job['name']}: {job['done']} done"
    if job["failures"]:
        return f"{text}, failed {job['failures']} times: {job['error']}"
    if job["ended_ns"] < job["began_ns"]:
        return f"{text}, under way"
    ended = datetime.fromtimestamp(job["ended_ns"] / 1e9, UTC)
    return f"{text}, last pass ended {ended:%Y-%m-%d %H:%M} UTC" if job["ended_ns"] else text


def queue_text(queue: dict[str, Any]) -> str:
    """`notify hook: 3 waiting, 120 done`, and how many were dropped if any were."""
    text = f"{queue['kind']} {queue['name']}: {queue['waiting']} waiting, {queue['done']} done"
    return f"{text}, {queue['dropped']} dropped" if queue["dropped"] else text


def _text(found: dict[str, Any]) -> str:
    ends = found["endpoints"]
    lines = ["ready" if found["ready"] else "not ready: " + "; ".join(found["missing"])]
    lines += [f"{name:<9} {url}" for name, url in ends.items() if url]
    if found["height"] is not None:
        price = tokens_text(found["price"])
        lines.append(f"height    {found['height']}, price {price} tokens per GiB and month")
        space = found["space"]
        lines.append(f"space     {size_text(space['used'])} of {size_text(space['pledged'])}")
        lines.append("repair    " + repair_text(found["repair"]))
        lines += [f"job       {job_text(job)}" for job in found["jobs"]]
        lines += [f"queue     {queue_text(queue)}" for queue in found["queues"]]
    rows: list[tuple[object, ...]] = [
        (
            node["name"],
            node["pid"] or "-",
            node["restarts"],
            size_text(node["used"]) if "used" in node else "",
            _scrubbed(node) if "scrubbed_ns" in node and node["kind"] == "miner" else "",
        )
        for node in found["nodes"]
    ]
    return "\n".join([*lines, "", table(("NODE", "PID", "RESTARTS", "USED", "SCRUBBED"), rows)])


def _scrubbed(node: dict[str, Any]) -> str:
    """`2026-11-20`, with what was ever found damaged."""
    ns, damaged = node["scrubbed_ns"], node["damaged"]
    day = datetime.fromtimestamp(ns / 1e9, UTC).date().isoformat() if ns else "not yet"
    return f"{day}, {damaged} damaged" if damaged else day
