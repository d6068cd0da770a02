"""Checks of a node: each finds one thing, in words that say what to do."""

import os
import resource
import shutil
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from chain.clock import Clock
from gateway.config import GIB, ConfigError
from gateway.credentials import read_credentials
from gateway.network import Network, NotRunning, read_network

FILES_WANTED = 4096
DISK_WANTED = 2 * GIB
# No honest clock shows a time before this program was written (2026-11-01, UTC).
WRITTEN_NS = 1_793_491_200 * 10**9
CERTIFICATE_DAYS = 14


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    text: str


def examine(
    data_dir: Path, clock: Clock, status: Callable[[Network], dict[str, Any]]
) -> list[Finding]:
    """Every check; `status` asks the running network (gateway.commands.status.collect)."""
    findings = [_directory(data_dir), _space(data_dir), _clock(clock), _files()]
    if findings[0].level is Level.FAILURE:
        return findings
    findings += [_credentials(data_dir), _backup(data_dir), _domains(data_dir)]
    try:
        network = read_network(data_dir / "run" / "network.json")
    except (NotRunning, ConfigError) as error:
        return [*findings, Finding("network", Level.FAILURE, str(error))]
    findings += _running(status(network))
    if network.cert is not None:
        findings.append(_tls(network.cert, clock))
    return findings


def _directory(path: Path) -> Finding:
    if not path.is_dir():
        return Finding("data", Level.FAILURE, f"{path} is not there: 'cumulus up' makes it")
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding("data", Level.FAILURE, f"{path} cannot be written by this user")
    if path.stat().st_mode & stat.S_IWOTH:
        return Finding("data", Level.FAILURE, f"everybody may write {path}: chmod 0700 it")
    return Finding("data", Level.OK, f"{path} is there and writable")


def _space(path: Path) -> Finding:
    there = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    text = f"{free / GIB:.1f} GiB free at {there}"
    if free < DISK_WANTED:
        return Finding("disk", Level.FAILURE, text + ": too little; miners and the catalog stop")
    return Finding("disk", Level.OK, text)


def _clock(clock: Clock) -> Finding:
    if clock.now_ns() < WRITTEN_NS:
        return Finding("clock", Level.FAILURE, "the clock is in the past: set it (NTP)")
    return Finding("clock", Level.OK, "the clock is plausible")


def _files() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_WANTED:
        text = f"{soft} open files allowed: servers want 'ulimit -n {FILES_WANTED}'"
        return Finding("files", Level.WARNING, text)
    return Finding("files", Level.OK, f"{soft} open files allowed")


def _credentials(data_dir: Path) -> Finding:
    path = data_dir / "credentials"
    try:
        read_credentials(path)
    except ConfigError as error:
        return Finding("credentials", Level.FAILURE, f"{error}; 'cumulus up' writes them")
    if path.stat().st_mode & 0o077:
        return Finding("credentials", Level.FAILURE, f"others may read {path}: chmod 0600 it")
    return Finding("credentials", Level.OK, f"{path} is private")


def _backup(data_dir: Path) -> Finding:
    if (data_dir / "backup.json").exists():
        return Finding("backup", Level.OK, "the keys were backed up")
    text = (
        f"the keys in {data_dir} were never backed up: without that directory"
        " what is stored cannot be decrypted; keep a copy of it elsewhere"
    )
    return Finding("backup", Level.WARNING, text)


def _domains(data_dir: Path) -> Finding:
    miners = [p for p in sorted((data_dir / "miners").glob("*")) if p.is_dir()]
    disks = {p.stat().st_dev for p in miners}
    if len(miners) > 1 and len(disks) == 1:
        text = (
            f"{len(miners)} miners share one disk: it is one failure domain, and losing it loses"
            " everything; use --disk with one directory per disk, or miners on other machines"
        )
        return Finding("domains", Level.WARNING, text)
    return Finding("domains", Level.OK, f"{len(miners)} local miners on {len(disks)} disks")


def _running(found: dict[str, Any]) -> list[Finding]:
    findings = []
    if found["ready"]:
        findings.append(Finding("network", Level.OK, "ready"))
    else:
        findings.append(
            Finding("network", Level.FAILURE, "not ready: " + "; ".join(found["missing"]))
        )
    down = [n["name"] for n in found["nodes"] if n["pid"] is None and not n.get("up")]
    weak = [f"{n['name']} ({n['restarts']} times)" for n in found["nodes"] if n["restarts"]]
    if down:
        text = f"not running: {', '.join(down)}; see the logs in {found['data_dir']}/logs"
        findings.append(Finding("processes", Level.FAILURE, text))
    elif weak:
        text = f"restarted: {', '.join(weak)}; see the logs in {found['data_dir']}/logs"
        findings.append(Finding("processes", Level.WARNING, text))
    else:
        count = len(found["nodes"])
        findings.append(Finding("processes", Level.OK, f"{count} processes, none restarted"))
    pending = found["repair"]["pending_fragments"]
    if pending:
        text = (
            f"{pending} fragments are being rebuilt; if that number stays, too few miners have"
            " room or too many are gone"
        )
        findings.append(Finding("repair", Level.WARNING, text))
    if crowded := found["repair"].get("crowded_fragments"):
        text = (
            f"{crowded} fragments share a failure domain with another of their segment:"
            " add a miner, and they move"
        )
        findings.append(Finding("crowded", Level.WARNING, text))
    findings += [
        Finding(job["name"], Level.WARNING, f"fails: {job['error']}")
        for job in found.get("jobs", ())
        if job["failures"]
    ]
    return findings


def _tls(cert: Path, clock: Clock) -> Finding:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(cert.read_bytes())
    except (OSError, ValueError, ssl.SSLError) as error:
        return Finding("tls", Level.FAILURE, f"{cert}: {error}")
    days = (found.not_valid_after_utc.timestamp() - clock.now_ns() / 1e9) / 86400
    if days < CERTIFICATE_DAYS:
        return Finding("tls", Level.WARNING, f"{cert} ends in {max(0, int(days))} days: renew it")
    return Finding("tls", Level.OK, f"{cert} is valid for {int(days)} days")
