"""What we lean on in aioice, aiortc and pylibsrtp without a promise of theirs.

After an upgrade a failure here says what has moved; the unit tests of ice and dtls say whether it matters.
"""

import ast
import inspect
import textwrap
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import aioice
import pylibsrtp
import pytest
from aioice import stun
from aioice.ice import CandidatePair, StunProtocol
from aiortc import RTCDataChannel, RTCSctpTransport, rtcdtlstransport, rtcsctptransport
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport, SRTPProtectionProfile, State
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib

import kaamos.media.engine
import kaamos.rtc.dtls
import kaamos.rtc.ice
import kaamos.rtc.sctp

# Attributes that are there once the object is made: private ones that we read or set.
CONNECTION = {
    "_check_list": list,
    "_closing": bool,
    "_local_candidates_end": bool,
    "_nominated": dict,
    "_protocols": list,
    "_remote_candidates": list,
}
CONNECTION_METHODS = {"_check_periodic"}
DTLS = {
    "_data_receiver": type(None),
    "_role": str,
    "_srtp_profiles": list,
    "_ssl": type(None),
    "_task": type(None),
}
# And private methods that we call or replace.
DTLS_METHODS = {
    "_recv_next",
    "_set_role",
    "_set_state",
    "_setup_srtp",
    "_validate_peer_identity",
    "_write_ssl",
}
CERTIFICATE_METHODS = {"_create_ssl_context"}
SESSION = {"_srtp"}
SCTP = {
    "_advertised_rwnd": int,
    "_association_state": RTCSctpTransport.State,
    "_cwnd": int,
    "_data_channels": dict,
    "_forward_tsn_chunk": type(None),
    "_inbound_streams": dict,
    "_inbound_streams_max": int,
    "_last_received_tsn": type(None),
    "_local_tsn": int,
    "_outbound_queue": deque,
    "_outbound_streams_count": int,
    "_sack_duplicates": list,
    "_sack_misordered": set,
    "_sent_queue": deque,
}
SCTP_METHODS = {
    "_data_channel_close",
    "_handle_data",
    "_mark_received",
    "_receive",
    "_receive_chunk",
    "_receive_data_chunk",
    "_receive_forward_tsn_chunk",
    "_receive_sack_chunk",
    "_send",
    "_set_state",
    "_t3_cancel",
}

# Public methods without documentation that we replace: (class, name, parameters).
REPLACED = [
    (aioice.Connection, "check_incoming", ["message", "addr", "protocol"]),
    (aioice.Connection, "check_complete", ["pair"]),
    (aioice.Connection, "check_start", ["pair"]),
    (aioice.Connection, "query_consent", []),
    (aioice.Connection, "_check_periodic", []),
    (aioice.Connection, "close", []),
    (StunProtocol, "send_stun", ["message", "addr"]),
    (StunProtocol, "close", []),
    (RTCDtlsTransport, "_setup_srtp", []),
    (RTCDtlsTransport, "_validate_peer_identity", ["remoteParameters"]),
    (RTCDtlsTransport, "_recv_next", []),
    (RTCDtlsTransport, "_write_ssl", []),
    (RTCCertificate, "_create_ssl_context", ["srtp_profiles"]),
    (RTCSctpTransport, "_mark_received", ["tsn"]),
    (RTCSctpTransport, "_receive", ["stream_id", "pp_id", "data"]),
    (RTCSctpTransport, "_receive_chunk", ["chunk"]),
    (RTCSctpTransport, "_receive_data_chunk", ["chunk"]),
    (RTCSctpTransport, "_receive_forward_tsn_chunk", ["chunk"]),
    (RTCSctpTransport, "_receive_sack_chunk", ["chunk"]),
    (RTCSctpTransport, "_set_state", ["state"]),
]

# And those that we call.
CALLED = [
    (aioice.Connection, "request_received", ["message", "addr", "protocol"]),
    (aioice.Connection, "check_state", ["pair", "state"]),
    (aioice.Connection, "connect", []),
    (StunProtocol, "connection_made", ["transport"]),
    (StunProtocol, "connection_lost", ["exc"]),
    (stun.Transaction, "response_received", ["message", "addr"]),
    (RTCDtlsTransport, "_set_role", ["role"]),
    (RTCDtlsTransport, "_set_state", ["state"]),
    (SRTPProtectionProfile, "get_key_and_salt", ["src", "idx"]),
    (RTCSctpTransport, "start", ["remoteCaps", "remotePort"]),
    (RTCSctpTransport, "stop", []),
    (RTCSctpTransport, "_data_channel_close", ["channel"]),
    (RTCSctpTransport, "_handle_data", ["data"]),
    (
        RTCSctpTransport,
        "_send",
        ["stream_id", "pp_id", "user_data", "expiry", "max_retransmits", "ordered"],
    ),
]


@pytest.fixture
async def connection() -> aioice.Connection:
    return aioice.Connection(ice_controlling=False)


@pytest.mark.parametrize(("owner", "name", "parameters"), REPLACED + CALLED)
def test_the_method_takes_what_we_think(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == ["self", *parameters]


def test_what_we_replace_is_awaited_or_not_as_before() -> None:
    coroutines = {name for owner, name, _ in REPLACED if inspect.iscoroutinefunction(getattr(owner, name))}
    assert coroutines == {"check_start", "query_consent", "close", "_recv_next", "_write_ssl"} | {
        "_receive",
        "_receive_chunk",
        "_receive_data_chunk",
        "_receive_forward_tsn_chunk",
        "_receive_sack_chunk",
    }


async def test_a_connection_has_what_we_use(connection: aioice.Connection) -> None:
    assert {name: type(getattr(connection, name)) for name in CONNECTION} == CONNECTION
    assert connection._early_checks.maxlen is not None, "checks before connect() are not bounded any more"
    assert (connection.remote_username, connection.remote_password) == (None, None)


async def test_a_pair_has_what_we_use(connection: aioice.Connection) -> None:
    protocol = StunProtocol(connection)
    remote = aioice.Candidate("1", 1, "udp", 1, "192.0.2.1", 5000, "prflx")
    protocol.local_candidate = aioice.Candidate("2", 1, "udp", 1, "192.0.2.2", 7882, "host")
    pair = CandidatePair(protocol, remote)
    assert pair.task is None and pair.state is CandidatePair.State.FROZEN
    assert (pair.protocol, pair.remote_candidate) == (protocol, remote)
    assert pair.remote_addr == ("192.0.2.1", 5000) and pair.local_candidate.host == "192.0.2.2"
    assert protocol.transactions == {}
    assert {"WAITING", "IN_PROGRESS", "FAILED"} <= CandidatePair.State.__members__.keys()


def test_numbers_of_stun_are_still_unpacked_without_a_look_at_their_length() -> None:
    # When this fails, ice.py need not catch struct.error any more.
    body = b"\x00\x24\x00\x02\x00\x01\x00\x00"
    with pytest.raises(Exception) as failure:
        stun.parse_message(b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12) + body)
    assert not isinstance(failure.value, ValueError)


def test_the_consent_checks_can_be_timed() -> None:
    assert aioice.ice.CONSENT_INTERVAL * aioice.ice.CONSENT_FAILURES == 30  # RFC 7675 section 5.1


def make_dtls() -> RTCDtlsTransport:
    return RTCDtlsTransport(None, [RTCCertificate.generateCertificate()])


def test_a_dtls_transport_has_what_we_use() -> None:
    transport = make_dtls()
    assert {name: type(getattr(transport, name)) for name in DTLS} == DTLS
    assert transport._rx_srtp is None, "aiortc would take RTP before we have said so"
    assert (transport.state, transport.encrypted) == ("new", False)
    assert all(callable(getattr(transport, name)) for name in DTLS_METHODS)
    assert {State.FAILED, State.CLOSED, State.CONNECTED} <= set(State)


def test_aiortc_asks_no_more_of_its_ice_transport_than_we_give() -> None:
    source = inspect.getsource(RTCDtlsTransport)
    found = {node.attr for node in attributes(source) if is_named(node.value, "transport")}
    assert found == {"_recv", "_send", "role"}
    assert all(hasattr(kaamos.rtc.dtls._Door, name) for name in found)


async def make_sctp() -> RTCSctpTransport:
    return RTCSctpTransport(make_dtls())


async def test_an_sctp_transport_has_what_we_use() -> None:
    transport = await make_sctp()
    assert {name: type(getattr(transport, name)) for name in SCTP} == SCTP
    assert {
        "CLOSED",
        "COOKIE_WAIT",
        "COOKIE_ECHOED",
        "ESTABLISHED",
    } <= RTCSctpTransport.State.__members__.keys()
    assert rtcsctptransport.InboundStream().reassembly == []
    assert (transport.port, transport.state) == (5000, "new")


def test_aiortc_asks_no_more_of_dtls_and_of_a_channel_than_we_give() -> None:
    tree = ast.parse(inspect.getsource(RTCSctpTransport))
    found = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (is_named(node.value, "__transport") or is_named(node.value, "transport"))
    }
    assert found - {"state"} == {
        "_role",
        "_send_data",
        "_register_data_receiver",
        "_unregister_data_receiver",
    }
    assert all(hasattr(kaamos.rtc.sctp._Records, name) for name in found)

    # Its own data channels and queue of messages are not in use, so most of these are not reached.
    methods = ("_data_channel_close", "_data_channel_closed", "_data_channel_reset", "_set_state")
    used = {
        node.attr
        for name in methods
        for node in attributes(textwrap.dedent(inspect.getsource(getattr(RTCSctpTransport, name))))
        if is_named(node.value, "channel")
    }
    assert used == {"readyState", "id", "_setReadyState", "negotiated"}
    assert all(hasattr(RTCDataChannel, name) for name in used)
    stream = kaamos.rtc.sctp._Stream(0, lambda stream_id: None)
    assert all(hasattr(stream, name) for name in used)


async def test_a_parameter_without_length_still_holds_aiortc_for_ever() -> None:
    # When this fails, sctp_packet.py need not look at parameters any more.
    source = inspect.getsource(rtcsctptransport.decode_params)
    assert "pos += param_length + padl(param_length)" in source and "raise" not in source


def test_the_profiles_have_the_lengths_of_their_rfcs() -> None:
    for profile, ours in kaamos.rtc.dtls._PROFILES.items():
        assert profile.key_length + profile.salt_length == ours.key_and_salt_bytes
        assert profile in rtcdtlstransport.SRTP_PROFILES
        assert profile.openssl_profile.decode() == f"SRTP_{ours.name}"


@pytest.mark.parametrize(
    "name", ["srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp"]
)
def test_libsrtp_is_reached_by_pointers_of_the_signature_of_2_x(name: str) -> None:
    function = ffi.addressof(lib, name)
    kind = ffi.typeof(function)
    kind = kind.item if kind.kind == "pointer" else kind
    assert [argument.kind for argument in kind.args] == ["pointer"] * 3
    assert int(ffi.cast("uintptr_t", function)) != 0


def test_a_session_shows_its_native_address() -> None:
    assert pylibsrtp.__version__.startswith("1.0.")
    session = Session(Policy(bytes(30), Policy.SSRC_ANY_OUTBOUND))
    assert int(ffi.cast("uintptr_t", session._srtp[0])) != 0


# That nothing is missing above.


def attributes(source: str) -> Iterator[ast.Attribute]:
    """Yield every attribute access of a source text."""
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))


def is_named(node: ast.expr, name: str) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == name) or (
        isinstance(node, ast.Name) and node.id == name
    )


def private_names(module: object) -> set[str]:
    """Names with one leading underscore that a module of ours uses as attributes or methods."""
    source = Path(inspect.getfile(module)).read_text()  # type: ignore[arg-type]
    tree = ast.parse(source)
    methods = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    names = methods | {node.attr for node in attributes(source)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


async def test_the_lists_above_name_every_private_attribute_that_we_use(
    connection: aioice.Connection,
) -> None:
    theirs = {name for thing in (connection, StunProtocol(connection)) for name in dir(thing)}
    assert private_names(kaamos.rtc.ice) & theirs == CONNECTION.keys() | CONNECTION_METHODS

    dtls = {name for thing in (make_dtls(), RTCCertificate) for name in dir(thing)}
    assert private_names(kaamos.rtc.dtls) & dtls == DTLS.keys() | DTLS_METHODS | CERTIFICATE_METHODS

    sctp = set(dir(await make_sctp()))
    assert private_names(kaamos.rtc.sctp) & sctp == SCTP.keys() | SCTP_METHODS

    session = Session(Policy(bytes(30), Policy.SSRC_ANY_OUTBOUND))
    assert private_names(kaamos.media.engine) & set(dir(session)) == SESSION
