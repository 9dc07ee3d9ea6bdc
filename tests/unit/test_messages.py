"""Frames in every form that clients use become the same messages, and others a typed error."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaamos.errors import ErrorCode, RemoteProtocolError
from kaamos.events import MessageSent, Source
from kaamos.signaling import frames, messages
from kaamos.signaling.messages import (
    Answer,
    DecodeError,
    Dialect,
    IceCandidate,
    Join,
    JoinSlots,
    Leave,
    Message,
    Mute,
    Offer,
    Ping,
    Resume,
    Subscribe,
    TrackHint,
    Unsubscribe,
    check_candidate,
    decode,
)

HOST_CANDIDATE = "candidate:1 1 UDP 2122252543 192.168.1.5 54321 typ host"
AT = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)


def refused(frame: object) -> DecodeError:
    text = frame if isinstance(frame, str | bytes) else json.dumps(frame)
    with pytest.raises(DecodeError) as caught:
        decode(text)
    return caught.value


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "join"}, Join()),
        ({"type": "join", "data": None}, Join()),
        ({"type": "join", "data": {"user_id": "ada", "name": "Ada", "role": "host"}}, Join("ada", "Ada")),
        ({"type": "join", "user_id": "ada", "room_id": "r", "name": "Ada"}, Join("ada", "Ada", "r")),
        ({"type": "join", "user_id": 123456789}, Join("123456789")),
        ({"type": "join", "data": {"user_id": -7}}, Join("-7")),
        ({"type": "join", "user_id": "outer", "data": {"user_id": "inner"}}, Join("inner")),
        ({"type": "join", "user_id": "outer", "data": {"user_id": None}}, Join("outer")),
        ({"type": "join", "data": {"user_id": "Ада Л."}}, Join("Ада Л.")),
        (
            {"type": "join", "data": {"resume": {"session": "SE_1", "token": "t", "last_seq": 7}}},
            Join(resume=Resume("SE_1", "t", 7)),
        ),
        ({"type": "offer", "data": {"sdp": "v=0", "type": "offer"}}, Offer("v=0")),
        ({"type": "offer", "sdp": "v=0", "room_id": "r"}, Offer("v=0")),
        ({"type": "answer", "data": {"sdp": "v=0"}}, Answer("v=0")),
        ({"type": "answer", "sdp": "v=0"}, Answer("v=0")),
        (
            {"type": "offer", "data": {"sdp": "v=0", "tracks": {"1": {"source": "screen_share"}, "2": {}}}},
            Offer("v=0", {"1": TrackHint(Source.SCREEN_SHARE), "2": TrackHint()}),
        ),
        ({"type": "mute", "data": {"track": "TR_1", "muted": True}}, Mute("TR_1", True)),
        ({"type": "mute", "track": "TR_1", "muted": False}, Mute("TR_1", False)),
        ({"type": "join", "data": {"slots": {"video": 0}}}, Join(slots=JoinSlots(video=0))),
        ({"type": "join", "data": {"negotiation": "client"}}, Join(negotiation="client")),
        ({"type": "join", "negotiation": None}, Join(negotiation="server")),
        ({"type": "join", "slots": {"audio": 3, "video": None}}, Join(slots=JoinSlots(audio=3))),
        ({"type": "subscribe", "data": {"participants": ["ada", 42]}}, Subscribe(["ada", "42"])),
        ({"type": "subscribe", "data": {"tracks": ["TR_1"], "pin": False}}, Subscribe([], ["TR_1"], False)),
        ({"type": "subscribe", "participants": [], "data": None}, Subscribe()),
        ({"type": "unsubscribe", "tracks": ["TR_1"]}, Unsubscribe([], ["TR_1"])),
        ({"type": "leave"}, Leave()),
        ({"type": "ping", "data": {"anything": [1, 2]}, "timestamp": "now"}, Ping()),
    ],
)
def test_a_frame_is_understood(frame: object, expected: object) -> None:
    assert decode(json.dumps(frame)).message == expected


@pytest.mark.parametrize(
    ("fields", "payload", "to"),
    [
        ('"data": {"payload": {"text": "hello"}}', '{"text": "hello"}', None),
        ('"data": {"to": "grace", "payload": "hello"}', '"hello"', "grace"),
        ('"data": {"to": 42, "payload": null}', "null", "42"),
        ('"data": {"to": "all", "payload": 1}', "1", None),
        ('"data": {"to": null, "payload": 1}', "1", None),
        ('"to": "grace", "payload": [1]', "[1]", "grace"),
        ('"data": null, "payload": 0', "0", None),
        ('"payload": 0, "data": {"payload": 12345678901234567890.10e2}', "12345678901234567890.10e2", None),
    ],
)
def test_a_payload_goes_on_as_it_came(fields: str, payload: str, to: str | None) -> None:
    message = decode(f'{{"type": "message", {fields}}}').message
    assert isinstance(message, Message)
    assert (bytes(message.payload).decode(), message.to) == (payload, to)
    sent = frames.encode(frames.news(MessageSent("ada", to, message.payload, AT))[0])
    assert f'"payload":{payload}' in sent


def test_a_payload_as_deep_as_may_be_read_can_be_passed_on() -> None:
    depths = [depth for depth in range(100, 1100) if _is_passed_on("[" * depth + "]" * depth)]
    assert depths == list(range(100, depths[-1] + 1))
    assert depths[-1] < 1099, "somewhere the decoder gives up"


def _is_passed_on(payload: str) -> bool:
    try:
        message = decode(f'{{"type": "message", "data": {{"payload": {payload}}}}}').message
    except DecodeError:
        return False
    assert isinstance(message, Message)
    return payload in frames.encode(frames.news(MessageSent("ada", None, message.payload, AT))[0])


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "message"},
        {"type": "message", "data": {"to": "grace"}},
        {"type": "message", "data": {"payload": 1, "to": True}},
        {"type": "message", "data": {"payload": 1, "to": ""}},
        {"type": "message", "data": {"payload": 1, "to": "x" * 129}},
        {"type": "join", "data": {"resume": True}},
        {"type": "join", "data": {"resume": {"session": "SE_1", "token": "t"}}},
        {"type": "join", "data": {"resume": {"session": "SE_1", "token": "t", "last_seq": -1}}},
        {"type": "join", "data": {"resume": {"session": "x" * 129, "token": "t", "last_seq": 0}}},
        {"type": "mute", "data": {"track": "TR_1"}},
        {"type": "mute", "data": {"muted": True}},
        {"type": "mute", "data": {"track": "TR_1", "muted": "yes"}},
        {"type": "mute", "data": {"track": "x" * 65, "muted": True}},
    ],
)
def test_a_field_of_the_wrong_shape_is_a_bad_message(frame: object) -> None:
    assert refused(frame).code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(
    "frame",
    [
        {"data": {"candidate": HOST_CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0}},
        {"candidate": HOST_CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0},
        {
            "candidate": {
                "candidate": HOST_CANDIDATE,
                "sdpMid": "0",
                "sdpMLineIndex": 0,
                "usernameFragment": "x",
            }
        },
        {"data": {"candidate": {"candidate": HOST_CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0}}},
    ],
)
@pytest.mark.parametrize("name", ["ice-candidate", "ice_candidate"])
def test_a_candidate_is_understood_in_every_place(name: str, frame: dict[str, object]) -> None:
    incoming = decode(json.dumps({"type": name, **frame}))
    assert incoming.message == IceCandidate(HOST_CANDIDATE, "0", 0)
    assert (Dialect.UNDERSCORES in incoming.dialect) is (name == "ice_candidate")
    assert (Dialect.TOP_LEVEL_CANDIDATE in incoming.dialect) is ("candidate" in frame)


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"data": None},
        {"data": {}},
        {"candidate": None},
        {"candidate": ""},
        {"data": {"candidate": ""}},
        {"data": {"candidate": None, "sdpMid": "0"}},
        {"candidate": {"candidate": "", "sdpMid": "0", "sdpMLineIndex": 0}},
    ],
)
def test_the_end_of_candidates_is_understood_in_every_form(frame: dict[str, object]) -> None:
    message = decode(json.dumps({"type": "ice-candidate", **frame})).message
    assert isinstance(message, IceCandidate)
    assert not message.candidate


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"1",
        b'"join"',
        b"null",
        b"NaN",
        b'{"type": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 100_000,
    ],
)
def test_what_is_no_json_object_is_a_bad_message(frame: bytes) -> None:
    assert refused(frame).code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"type": None},
        {"type": 1},
        {"type": ["join"]},
        {"type": "join", "data": []},
        {"type": "join", "data": "ada"},
        {"type": "join", "user_id": True},
        {"type": "join", "user_id": 1.5},
        {"type": "join", "user_id": ["ada"]},
        {"type": "join", "user_id": ""},
        {"type": "join", "user_id": " ada"},
        {"type": "join", "user_id": "a\r\nb"},
        {"type": "join", "user_id": "a\u2028b"},
        {"type": "join", "user_id": "x" * 129},
        {"type": "join", "user_id": 10**200},
        {"type": "join", "name": "x" * 129},
        {"type": "join", "name": 1},
        {"type": "join", "room_id": 1},
        {"type": "offer"},
        {"type": "offer", "data": {}},
        {"type": "offer", "data": {"sdp": None}},
        {"type": "offer", "sdp": 1},
        {"type": "offer", "sdp": "v=0", "tracks": []},
        {"type": "offer", "sdp": "v=0", "tracks": {"0": "camera"}},
        {"type": "offer", "sdp": "v=0", "tracks": {"0": {"source": "telescope"}}},
        {"type": "offer", "sdp": "v=0", "tracks": {"m" * 65: {}}},
        {"type": "offer", "sdp": "v=0", "tracks": {str(mid): {} for mid in range(257)}},
        {"type": "answer", "data": {"sdp": {}}},
        {"type": "ice-candidate", "candidate": 1},
        {"type": "ice-candidate", "candidate": []},
        {"type": "ice-candidate", "candidate": HOST_CANDIDATE, "sdpMid": 0},
        {"type": "ice-candidate", "candidate": HOST_CANDIDATE, "sdpMLineIndex": -1},
        {"type": "ice-candidate", "candidate": HOST_CANDIDATE, "sdpMLineIndex": 1.5},
        {"type": "ice-candidate", "candidate": "x" * 1025},
        {"type": "join", "slots": 3},
        {"type": "join", "negotiation": "nobody"},
        {"type": "join", "data": {"negotiation": True}},
        {"type": "join", "slots": {"video": -1}},
        {"type": "join", "slots": {"audio": 1001}},
        {"type": "join", "slots": {"video": "all"}},
        {"type": "subscribe"},
        {"type": "unsubscribe", "data": {"pin": True}},
        {"type": "subscribe", "participants": "ada"},
        {"type": "subscribe", "participants": [True]},
        {"type": "subscribe", "participants": [""]},
        {"type": "subscribe", "participants": [None]},
        {"type": "subscribe", "participants": ["x" * 129]},
        {"type": "subscribe", "participants": [10**200]},
        {"type": "subscribe", "participants": list(range(257))},
        {"type": "unsubscribe", "tracks": {}},
        {"type": "unsubscribe", "tracks": [1]},
        {"type": "unsubscribe", "tracks": ["x" * 65]},
        {"type": "unsubscribe", "tracks": ["TR_1"] * 257},
        {"type": "subscribe", "tracks": [], "pin": "yes"},
        {"type": "ping", "id": {}},
        {"type": "ping", "id": True},
        {"type": "ping", "id": 2**53},
        {"type": "ping", "id": "x" * 129},
    ],
)
def test_a_wrong_shape_is_a_bad_message(frame: object) -> None:
    assert refused(frame).code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(
    "name", ["", "JOIN", "joined", "participant_joined", "x" * 1_000_000, "error", "pong"]
)
def test_a_type_that_clients_do_not_send_is_unknown(name: str) -> None:
    error = refused({"type": name, "id": "7"})
    assert (error.code, error.id) == (ErrorCode.UNKNOWN_TYPE, "7")
    assert len(error.message) < 200


@pytest.mark.parametrize("id", ["c-1", 7, "", 0])
def test_an_error_names_the_message_that_caused_it(id: str | int) -> None:
    assert refused({"type": "offer", "id": id}).id == id


@pytest.mark.parametrize(
    "text",
    [
        HOST_CANDIDATE,
        "a=" + HOST_CANDIDATE,
        HOST_CANDIDATE.removeprefix("candidate:"),
        "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 10.0.17.1 rport 46154"
        " generation 0 ufrag EEtu network-id 3 network-cost 10",
        "candidate:3 1 tcp 1518280447 fd00::1 9 typ host tcptype active generation 0 ufrag x network-id 1",
        "candidate:4 1 UDP 2113937151 a2f5b3c1-0000-4000-8000-00805f9b34fb.local 50000 typ host ufrag ",
        "candidate:0 2 UDP 2122187006 192.168.1.5 40000 typ relay raddr 0.0.0.0 rport 0",
    ],
)
def test_a_candidate_of_a_real_client_passes(text: str) -> None:
    check_candidate(text)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "candidate:",
        "candidate:1 1 UDP 1 192.0.2.1 1",
        "candidate:1 257 UDP 1 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 4294967296 192.0.2.1 1 typ host",
        "candidate:1 1 UDP 1 192.0.2.1 65536 typ host",
        "candidate:1 1 UDP 1 192.0.2.1 -1 typ host",
        "candidate:1 1 UDP 1 192.0.2.1\r\na=x 1 typ host",
        "candidate:1 1 UDP 1 192.0.2.1 1 typ host\r\na=fingerprint:x",
        "candidate:" + "1" * 33 + " 1 UDP 1 192.0.2.1 1 typ host",
    ],
)
def test_what_is_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_candidate(text)
    assert caught.value.code is ErrorCode.INVALID_CANDIDATE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "type",
        "id",
        "data",
        "sdp",
        "tracks",
        "candidate",
        "sdpMid",
        "sdpMLineIndex",
        "user_id",
        "name",
        "room_id",
    ]
)


@given(
    frame=st.dictionaries(FIELDS, JSON, max_size=6),
    name=st.sampled_from([*messages.CLIENT_TYPES, "ice_candidate"]),
    data=st.none() | JSON | st.dictionaries(FIELDS, JSON, max_size=6),
)
def test_json_of_any_shape_is_a_message_or_a_typed_error(
    frame: dict[str, object], name: str, data: object
) -> None:
    try:
        incoming = decode(json.dumps({**frame, "type": name, "data": data}))
    except DecodeError as error:
        assert len(frames.encode(frames.error(error.code, error.message, error.id))) < 2000
    else:
        assert isinstance(incoming.message, messages.CLIENT_TYPES[name.replace("_", "-")])
