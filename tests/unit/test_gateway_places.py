"""Where a network's things are: listeners, network.json, credentials, TLS, pledges, locks."""

import os
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.clock import SystemClock
from gateway import launch, locks
from gateway.config import Config, ConfigError, resolve
from gateway.credentials import check_keys, ensure_credentials, read_credentials
from gateway.listeners import FACES, is_loopback, open_listeners
from gateway.network import Endpoints, Network, NotRunning, read_network, socket_dir
from gateway.tls import ensure_self_signed


def config_at(folder: Path, **more: object) -> Config:
    ports: dict[str, object] = {
        "s3_port": 0,
        "ipfs_port": 0,
        "ipfs_api_port": 0,
        "console_port": 0,
    }
    return resolve({"data_dir": str(folder), **ports, **more}, {})


def counted(size: int) -> bytes:
    return bytes(range(size))


def prepared(folder: Path, **more: object) -> Network:
    return launch.prepare(config_at(folder, **more), [], {}, SystemClock(), counted)


# ---------------------------------------------------------------- listeners
@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_only_a_loopback_address_is_one(host: str, loopback: bool) -> None:
    with socket.create_server((host, 0)) as listener:
        assert is_loopback(listener) is loopback


def test_port_zero_takes_a_free_port_and_tells_it(tmp_path: Path) -> None:
    listeners = open_listeners(config_at(tmp_path))
    assert [listener.face for listener in listeners] == list(FACES)
    for listener in listeners:
        port = listener.socket.getsockname()[1]
        assert listener.url == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        listener.socket.close()


def test_a_port_in_use_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--console-port {port}: port in use"):
            open_listeners(config_at(tmp_path, console_port=port))


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.1"):
        open_listeners(config_at(tmp_path, host="192.0.2.1"))


# ---------------------------------------------------------------- network.json
def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    network = prepared(tmp_path, miners=3, s3_domain=["a.test"], tls="self-signed")
    assert read_network(tmp_path / "run" / "network.json") == network
    assert network.profile == "mirror"
    assert [miner.name for miner in network.miners] == ["m1", "m2", "m3"]
    assert (tmp_path / "credentials").stat().st_mode & 0o777 == 0o600


def test_no_network_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="cumulus up"):
        read_network(tmp_path / "run" / "network.json")


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_a_damaged_network_file_is_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = tmp_path_factory.mktemp("n") / "network.json"
    path.write_bytes(raw)
    with pytest.raises((ConfigError, NotRunning)):
        read_network(path)


def test_a_long_path_gets_a_private_short_socket_directory(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    short = socket_dir(folder)
    assert len(os.fsencode(short)) < 60
    assert short.stat().st_mode & 0o777 == 0o700
    assert socket_dir(folder) == short
    short.rmdir()


def test_pledges_stay_as_first_chosen(tmp_path: Path) -> None:
    first = [miner.pledge for miner in prepared(tmp_path).miners]
    assert len(set(first)) == 1
    assert launch.PLEDGE_MIN <= first[0] <= launch.PLEDGE_MAX
    (tmp_path / "pledges.json").write_text(
        (tmp_path / "pledges.json").read_text().replace(str(first[0]), "777777777", 1)
    )
    assert prepared(tmp_path).miners[0].pledge == 777777777
    assert {miner.pledge for miner in prepared(tmp_path, pledge="1GiB").miners} == {2**30}


def test_one_miner_per_disk(tmp_path: Path) -> None:
    disks = [str(tmp_path / f"disk{n}") for n in range(3)]
    network = prepared(tmp_path / "data", disk=disks)
    assert [str(miner.data_dir) for miner in network.miners] == disks


def test_children_know_where_everything_is(tmp_path: Path) -> None:
    config = config_at(tmp_path, workers=2)
    listeners = open_listeners(config)
    network = launch.prepare(config, listeners, {}, SystemClock(), counted)
    made = launch.commands(network, listeners, [40, 41])
    names = [command.name for command in made]
    assert names == [
        "chain",
        *(f"miner-m{n}" for n in range(1, 7)),
        "catalog",
        "repair",
        "jobs",
        "worker-1",
        "worker-2",
    ]
    worker = made[-1]
    fds = dict(zip(FACES, worker.pass_fds[2:], strict=True))
    assert ",".join(f"{face}={fd}" for face, fd in fds.items()) in worker.argv
    assert [command.stage for command in made] == [3, *[2] * 6, 1, 0, 0, 0, 0]
    assert all(tuple(command.argv[-2:]) == ("--lifeline", "40") for command in made)
    assert network.endpoints == Endpoints(**{li.face: li.url for li in listeners})
    for listener in listeners:
        listener.socket.close()


def test_no_jobs_are_done_where_the_background_is_off(tmp_path: Path) -> None:
    for background, there in (("full", True), ("gentle", True), ("off", False)):
        network = launch.prepare(
            config_at(tmp_path, background=background), [], {}, SystemClock(), counted
        )
        names = [command.name for command in launch.commands(network, [], [40])]
        assert ("jobs" in names) is there
        assert "repair" in names


def test_the_scrub_of_miners_is_set_and_switched_off(tmp_path: Path) -> None:
    for background, rate in (("gentle", "1048576"), ("full", "1048576"), ("off", "0")):
        config = config_at(tmp_path, background=background, scrub_rate="1M", scrub_cycle="2d")
        network = launch.prepare(config, [], {}, SystemClock(), counted)
        (argv, *_) = [
            each.argv for each in launch.commands(network, [], [40]) if "miner" in each.argv
        ]
        assert argv[argv.index("--scrub-rate") + 1] == rate
        assert argv[argv.index("--scrub-cycle") + 1] == "172800.0"


# ---------------------------------------------------------------- credentials
def test_keys_are_made_once_and_replaced_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    made = ensure_credentials(path, {}, counted)
    assert ensure_credentials(path, {}, lambda n: b"x" * n) == made == read_credentials(path)
    given_keys = {"CUMULUS_ACCESS_KEY": "ann", "CUMULUS_SECRET_KEY": "a/b+c=%d"}
    assert ensure_credentials(path, given_keys, counted) == ("ann", "a/b+c=%d")
    assert ensure_credentials(path, {}, counted) == ("ann", "a/b+c=%d")
    with pytest.raises(ConfigError, match="go together"):
        ensure_credentials(path, {"CUMULUS_ACCESS_KEY": "ann"}, counted)


@pytest.mark.parametrize(("access", "secret"), [("a", "secret"), ("a/b", "secret"), ("ann", "s p")])
def test_keys_that_no_signature_could_carry_are_refused(access: str, secret: str) -> None:
    with pytest.raises(ConfigError):
        check_keys(access, secret)


# ---------------------------------------------------------------- TLS
def test_a_strict_client_accepts_the_self_signed_certificate(tmp_path: Path) -> None:
    files = ensure_self_signed(tmp_path, ["s3.test"], "127.0.0.1", SystemClock())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key)
    client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1", "bucket.s3.test", "::1"):
        assert shake_hands(client, server, name)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(down, up, server_hostname=name),
        server.wrap_bio(up, down, server_side=True),
    )
    done = [False, False]
    for _ in range(10):
        for index, end in enumerate(ends):
            try:
                end.do_handshake()
                done[index] = True
            except ssl.SSLWantReadError:
                continue
    return all(done)


def test_the_certificate_follows_its_names_and_the_authority_stays(tmp_path: Path) -> None:
    clock = SystemClock()
    first = ensure_self_signed(tmp_path, ["a.test"], "127.0.0.1", clock)
    authority, cert = (tmp_path / "ca.pem").read_bytes(), first.cert.read_bytes()
    ensure_self_signed(tmp_path, ["a.test"], "127.0.0.1", clock)
    assert first.cert.read_bytes() == cert
    ensure_self_signed(tmp_path, ["b.test"], "127.0.0.1", clock)
    assert (tmp_path / "ca.pem").read_bytes() == authority
    found = x509.load_pem_x509_certificate(first.cert.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "*.b.test" in names.get_values_for_type(x509.DNSName)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_damaged_authority_is_refused_in_one_line(tmp_path: Path) -> None:
    ensure_self_signed(tmp_path, [], "127.0.0.1", SystemClock())
    (tmp_path / "ca-key.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match="begin anew"):
        ensure_self_signed(tmp_path, ["new.test"], "127.0.0.1", SystemClock())


# ---------------------------------------------------------------- the directory
def test_a_directory_has_one_network(tmp_path: Path) -> None:
    lock = locks.take_network(tmp_path)
    with pytest.raises(ConfigError, match=rf"already runs here.*{os.getpid()}"):
        locks.take_network(tmp_path)
    lock.release()
    locks.take_network(tmp_path).release()


def test_a_directory_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    locks.take_network(tmp_path).release()
    (tmp_path / "FORMAT").write_text('{"kind": "network", "version": 99}')
    with pytest.raises(ConfigError, match="newer"):
        locks.take_network(tmp_path)


async def test_a_new_network_waits_for_the_children_of_a_killed_one(tmp_path: Path) -> None:
    class Steps(SystemClock):
        def __init__(self) -> None:
            self.now = 0.0

        def monotonic(self) -> float:
            return self.now

        async def sleep(self, seconds: float) -> None:
            self.now += seconds
            if self.now > 1:
                os.close(held.pop())

    (tmp_path / "run").mkdir()
    held = [await locks.take_children(tmp_path, SystemClock())]
    clock = Steps()
    descriptor = await locks.take_children(tmp_path, clock)
    assert clock.now > 1
    os.close(descriptor)
