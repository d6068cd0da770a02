"""Places outside that an operator names in cumulus.toml."""

from dataclasses import asdict
from pathlib import Path

import pytest

from gateway.config import ConfigError, resolve
from gateway.events.places import Endpoint, Webhook, parse_endpoints, parse_webhooks


def test_tables_are_read_and_survive_being_written(tmp_path: Path) -> None:
    (tmp_path / "cumulus.toml").write_text(
        '[notify.hook]\nurl = "https://listener.example:8443/x?y=z"\ntoken = "t"\nbatch = 10\n'
        '[notify.second]\nurl = "http://[::1]:80"\n'
        '[replication.there]\nurl = "https://s3.example"\naccess_key = "a"\nsecret_key = "b"\n'
    )
    config = resolve({"data_dir": str(tmp_path)}, {})
    assert config.notify == {
        "hook": Webhook("https://listener.example:8443/x?y=z", "t", batch=10),
        "second": Webhook("http://[::1]:80"),
    }
    assert config.replication == {"there": Endpoint("https://s3.example", "a", "b")}
    # As network.json has them.
    written = {name: asdict(place) for name, place in config.notify.items()}
    assert parse_webhooks(written) == config.notify
    endpoints = {name: asdict(place) for name, place in config.replication.items()}
    assert parse_endpoints(endpoints) == config.replication


def test_webhooks_may_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"CUMULUS_NOTIFY": "a=http://one/?x=1, b=https://two"}
    found = resolve({"data_dir": str(tmp_path)}, environ).notify
    assert found == {"a": Webhook("http://one/?x=1"), "b": Webhook("https://two")}


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("[notify]\nhook = 1\n", "a table is expected"),
        ('[notify.hook]\ntoken = "x"\n', "url is missing"),
        ('[notify.hook]\nurl = "ftp://x"\n', "http://"),
        ('[notify.hook]\nurl = "http://user:word@x"\n', "http://"),
        ('[notify.hook]\nurl = "http://x y"\n', "http://"),
        ('[notify.hook]\nurl = "http://x:99999"\n', "hook"),
        ('[notify.hook]\nurl = "http://x"\nbatch = 0\n', "batch"),
        ('[notify.hook]\nurl = "http://x"\nbatch = true\n', "batch"),
        ('[notify.hook]\nurl = "http://x"\ntoken = "a\\nb"\n', "token"),
        ('[notify.hook]\nurl = "http://x"\ncolour = "red"\n', "unknown setting colour"),
        ('[notify."a b"]\nurl = "http://x"\n', "a name is letters"),
        ('[replication.x]\nurl = "http://x"\naccess_key = "a"\n', "secret_key is missing"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_without_secrets(
    tmp_path: Path, text: str, needle: str
) -> None:
    (tmp_path / "cumulus.toml").write_text(text)
    with pytest.raises(ConfigError) as problem:
        resolve({"data_dir": str(tmp_path)}, {})
    assert needle in str(problem.value)
    assert "word@" not in str(problem.value)


def test_secrets_are_in_no_text_of_a_place() -> None:
    assert "sesame" not in repr(Webhook("http://x", "sesame"))
    assert "sesame" not in repr(Endpoint("http://x", "a", "sesame"))
