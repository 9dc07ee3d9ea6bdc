"""Settings: which place wins, and what is refused with which words."""

from pathlib import Path

import pytest

from kaamos.config import Config, IceServer, config_from, is_loopback, load_config
from kaamos.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "kaamos.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_documents() -> None:
    config = load_config(environment={})
    assert (config.http.host, config.http.port, config.rtc.port) == ("127.0.0.1", 8080, 7882)
    assert (config.rooms.ttl_s, config.rooms.max_rooms, config.rooms.max_participants) == (
        86400,
        10_000,
        1_000,
    )
    limits = config.limits
    assert (limits.create_per_minute, limits.info_per_minute, limits.ws_per_minute) == (5, 10, 30)
    assert (limits.message_bytes, limits.messages_per_second, limits.join_timeout_s) == (1 << 20, 20, 10)


def test_the_file_is_under_the_environment_and_that_under_the_flags(tmp_path: Path) -> None:
    path = written(tmp_path, "[rtc]\nport = 1\n[http]\nport = 2\n[rooms]\nttl_s = 3\n")
    environment = {"KAAMOS_HTTP_PORT": "20", "KAAMOS_ROOMS_TTL_S": "30"}
    config = load_config(path, flags={"rooms.ttl_s": 300.0}, environment=environment)
    assert (config.rtc.port, config.http.port, config.rooms.ttl_s) == (1, 20, 300)


def test_port_of_the_platform_counts_unless_ours_is_said() -> None:
    assert load_config(environment={"PORT": "5000"}).http.port == 5000
    both = {"KAAMOS_HTTP_PORT": "6000", "PORT": "5000"}
    assert load_config(environment=both).http.port == 6000


def test_lists_can_come_from_every_place(tmp_path: Path) -> None:
    path = written(tmp_path, 'rtc.ip = ["10.0.0.1", "::1"]\nice.servers = [{urls = "stun:a"}]')
    config = load_config(path, environment={})
    assert config.rtc.ip == ("10.0.0.1", "::1")
    assert config.ice.servers == (IceServer("stun:a"),)
    environment = {"KAAMOS_RTC_IP": "10.0.0.2, 10.0.0.3", "KAAMOS_ICE_SERVERS": '[{"urls": ["stun:b"]}]'}
    config = load_config(environment=environment)
    assert config.rtc.ip == ("10.0.0.2", "10.0.0.3")
    assert config.ice.servers == (IceServer(("stun:b",)),)
    assert load_config(environment={}, flags={"rtc.ip": ("10.0.0.4",)}).rtc.ip == ("10.0.0.4",)


def test_variables_of_others_that_begin_like_ours_are_ignored() -> None:
    environment = {
        "KAAMOS_BUILD_DEBUG": "1",
        "KAAMOS_SERVICE_HOST": "10.0.0.1",
        "KAAMOS_PORT_7882_UDP": "udp://",
    }
    assert load_config(environment=environment) == Config()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rtc.prot = 1", "there is no setting rtc.prot"),
        ("turn.port = 1", "there is no setting turn"),
        ("rtc = 1", "rtc"),
        ("rtc.port = 65536", "rtc.port"),
        ("rtc.port = -1", "rtc.port"),
        ('rtc.port = "many"', "rtc.port"),
        ("rtc.ip = ['localhost']", "'localhost' is not an IP address"),
        ("rtc.ip = ['0.0.0.0']", "nobody can send to 0.0.0.0"),
        ("media.workers = 2", "this version runs one worker"),
        ("auth.mode = 'token'", "auth.mode"),
        ("http.host = ''", "http.host"),
        ("http.host = '0.0.0.0'", 'auth.mode = "open"'),
        ("http.host = 'meet.example.org'", 'auth.mode = "open"'),
        ("http.public_url = 'meet.example.org'", "not like https://"),
        ("http.public_url = 'https://['", "not like https://"),
        ("log.format = 'xml'", "log.format"),
        ("limits.message_bytes = -1", "limits.message_bytes"),
        ("rooms.ttl_s = nan", "rooms.ttl_s"),
        ("rooms.ttl_s = inf", "rooms.ttl_s"),
        ("ice.servers = [{url = 'stun:a'}]", "url"),
        ("this is no TOML", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("[", r"\[")):
        load_config(written(tmp_path, text), environment={})


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.toml", environment={})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(binary, environment={})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAAMOS_RTC_PROT", "1"),
        ("KAAMOS_RTC_PORT", "seven"),
        ("KAAMOS_ICE_SERVERS", "stun:a"),
        ("PORT", "http"),
    ],
)
def test_a_wrong_variable_is_refused(variable: str, value: str) -> None:
    with pytest.raises(ConfigError):
        load_config(environment={variable: value})


def test_another_address_than_loopback_needs_open_mode_said() -> None:
    with pytest.raises(ConfigError, match="KAAMOS_AUTH_MODE=open"):
        config_from({"http": {"host": "192.0.2.1"}})
    assert config_from({"http": {"host": "192.0.2.1"}, "auth": {"mode": "open"}}).auth.mode == "open"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_mapped_candidate_address_is_refused_by_its_real_name() -> None:
    with pytest.raises(ConfigError, match=r"rtc\.ip: write 127\.0\.0\.1 for ::ffff:127\.0\.0\.1"):
        config_from({"rtc": {"ip": "::ffff:127.0.0.1"}})
