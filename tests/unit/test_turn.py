"""TURN credentials by shared secret: what coturn would compute, and who gets which."""

import base64
import hashlib
import hmac

import pytest

from kaamos.config import Config, Ice, IceServer, config_from
from kaamos.errors import ConfigError
from kaamos.signaling.turn import credential, ice_servers

SECRET = "north"
STUN, TURN, TURNS = (
    "stun:stun.example.org",
    "turn:turn.example.org:3478?transport=udp",
    "turns:[2001:db8::1]:5349",
)


def given(*servers: IceServer, secret: str = SECRET) -> tuple[IceServer, ...]:
    return ice_servers(Ice(servers, turn_secret=secret), expires_at=1700000000, name="ada")


def test_the_password_is_what_the_turn_server_computes_from_the_username() -> None:
    # Python's other way to it; coturn itself is asked in tests/interop.
    digest = hmac.new(b"north", b"1700000000:ada", hashlib.sha1).digest()
    assert credential(SECRET, "1700000000:ada") == base64.b64encode(digest).decode()
    assert credential("logen", "1234567890:1234") != credential("logen", "1234567891:1234")


def test_turn_gets_credentials_and_stun_gets_none() -> None:
    turn = IceServer((TURN, TURNS), "1700000000:ada", credential(SECRET, "1700000000:ada"))
    assert given(IceServer(STUN), IceServer((TURN, TURNS))) == (IceServer((STUN,)), turn)
    assert given(IceServer((STUN, TURN, TURNS))) == (IceServer((STUN,)), turn)


def test_a_server_with_credentials_of_its_own_keeps_them() -> None:
    own = IceServer(TURN, "them", "theirs")
    assert given(own) == (own,)


def test_without_a_secret_and_without_servers_nothing_changes() -> None:
    assert given() == ()
    assert given(IceServer(STUN), secret="") == (IceServer(STUN),)


@pytest.mark.parametrize(
    "url",
    [
        "stun:a",
        "stun:192.0.2.1:3478",
        "stuns:stun.example.org",
        "turn:turn.example.org",
        "turn:[::1]:1?transport=tcp",
        "turns:turn.example.org:65535?transport=tcp",
    ],
)
def test_a_good_url_is_taken(url: str) -> None:
    assert (
        config_from({"ice": {"servers": [{"urls": url}], "turn_secret": SECRET}}).ice.servers[0].urls == url
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "stun:",
        "turn",
        "turn.example.org",
        "http://turn.example.org",
        "turn://turn.example.org",
        "TURN:turn.example.org",
        "turn:turn.example.org:65536",
        "stun:stun.example.org:0",
        "turn:turn.example.org:",
        "turn:turn.example.org:port",
        "turn:turn.example.org?transport=sctp",
        "turn:turn.example.org?transport=udp&x",
        "stun:stun.example.org?transport=udp",
        "turn:[turn]",
        "turn:[::1",
        "turn:[1:2]",
        "turn:a b",
        "turn:turn.example.org\n",
        "turn:user@turn.example.org",
    ],
)
def test_a_bad_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ice\.servers: .* is not like"):
        config_from({"ice": {"servers": [{"urls": ["stun:a", url]}], "turn_secret": SECRET}})


@pytest.mark.parametrize(
    ("ice", "complaint"),
    [
        ({"servers": [{"urls": TURN}]}, "needs ice.turn_secret"),
        ({"servers": [{"urls": []}], "turn_secret": SECRET}, "has no urls"),
        ({"servers": [{"urls": TURN, "username": "ada"}], "turn_secret": SECRET}, "go together"),
        ({"servers": [{"urls": TURN, "credential": "x"}], "turn_secret": SECRET}, "go together"),
        ({"turn_secret": SECRET, "turn_ttl_s": 59}, "ice.turn_ttl_s"),
        ({"turn_secret": SECRET, "turn_ttl_s": 0}, "ice.turn_ttl_s"),
    ],
)
def test_what_no_client_could_use_is_refused(ice: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        config_from({"ice": ice})


def test_secrets_stand_in_no_representation_and_no_complaint() -> None:
    server = IceServer(TURN, "them", "hidden-1")
    config = Config(ice=Ice((server,), turn_secret="hidden-2"))
    assert "hidden" not in repr(config) + repr(given(server, IceServer(TURN))) + str(config)
    with pytest.raises(ConfigError) as refused:
        config_from(
            {"ice": {"servers": [{"urls": "x", "credential": "hidden-1"}], "turn_secret": "hidden-2"}}
        )
    assert "hidden" not in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        config_from(
            {"ice": {"servers": [{"url": "x", "credential": "hidden-1"}], "turn_secret": ["hidden-2"]}}
        )
    assert "hidden" not in str(refused.value)
