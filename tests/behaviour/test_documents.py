"""The documents for clients and the code say the same, in both directions."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kaamos.errors import ErrorCode
from kaamos.events import (
    AnswerMade,
    Joined,
    LeaveReason,
    MessageSent,
    OfferMade,
    OfferWanted,
    ParticipantInfo,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantList,
    Role,
    SectionInfo,
    SlotsChanged,
    Source,
    SpeakersChanged,
    TrackInfo,
    TrackMuted,
    TrackUnsupported,
)
from kaamos.signaling import frames, messages, rest
from kaamos.signaling.frames import Frame, LimitsData, Ticket, Welcome
from kaamos.signaling.messages import Dialect
from tests.support.signaling_client import site

DOCS = Path(__file__).resolve().parents[2] / "docs"


def document(name: str) -> dict[str, Any]:
    value = yaml.safe_load((DOCS / name).read_text())
    assert isinstance(value, dict)
    return value


def resolved(root: dict[str, Any], node: Any) -> Any:
    """Return a node with all references replaced by what they name."""
    if isinstance(node, dict) and "$ref" in node:
        target: Any = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolved(root, target)
    if isinstance(node, dict):
        return {key: resolved(root, value) for key, value in node.items()}
    return [resolved(root, item) for item in node] if isinstance(node, list) else node


async def test_every_route_is_described_and_every_described_route_exists() -> None:
    described = {
        (method.upper(), path)
        for path, item in document("openapi.yaml")["paths"].items()
        for method in item
        if method != "parameters"
    }
    async with site() as served:
        routes = {
            (route.method, re.sub(r"\{(\w+):.*\}", r"{\1}", route.resource.canonical))
            for route in served.http.app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }
    assert routes == described


def test_rest_bodies_have_the_described_fields() -> None:
    schemas = document("openapi.yaml")["components"]["schemas"]
    for struct in (rest.Health, rest.CreateRoom, rest.CreatedRoom, rest.RoomState, rest.Problem):
        schema = schemas[struct.__name__]
        assert set(struct.__struct_fields__) == set(schema["properties"])
        always = {field.name for field in msgspec.structs.fields(struct) if struct is not rest.CreateRoom}
        assert always == set(schema.get("required", ()))


def spoken(operation: str) -> dict[str, dict[str, Any]]:
    """Return the described messages of one side, by type."""
    root = document("asyncapi.yaml")
    said = resolved(root, root["operations"][operation]["messages"])
    return {message["name"]: message["payload"]["properties"]["data"] for message in said}


def test_the_messages_of_clients_are_those_described() -> None:
    described = spoken("clientSays")
    assert set(described) == set(messages.CLIENT_TYPES)
    for name, struct in messages.CLIENT_TYPES.items():
        fields = {field.encode_name: field.required for field in msgspec.structs.fields(struct)}
        assert set(fields) == set(described[name]["properties"])
        assert {field for field, required in fields.items() if required} == set(
            described[name].get("required", ())
        )


def all_frames() -> list[Frame]:
    track = TrackInfo("ada", "TR_1", "video", Source.CAMERA)
    ada = ParticipantInfo("ada", "Ada", Role.GUEST, datetime.now(UTC), (track,))
    sections = {"0": SectionInfo(track, track)}
    candidate: dict[str, str | int] = {"candidate": "candidate:…", "sdpMid": "0", "sdpMLineIndex": 0}
    return [
        *frames.acknowledgement(
            Joined("room", ada, {"audio": 8, "video": 16}),
            Welcome((), LimitsData(1, 1), "1"),
            Ticket("SE_1", "t"),
            None,
        ),
        *frames.news(ParticipantList((ada,))),
        *frames.news(ParticipantJoined(ada)),
        *frames.news(ParticipantLeft("ada", LeaveReason.LEFT)),
        *frames.news(TrackMuted("ada", "TR_1", True)),
        *frames.news(SpeakersChanged((("ada", 0.5),))),
        frames.slots(SlotsChanged({"0": track, "1": None})),
        frames.unsupported(TrackUnsupported("ada", "TR_1")),
        *frames.news(MessageSent("ada", "grace", "hello", datetime.now(UTC))),
        frames.offer(OfferMade("offer-1", "v=0", sections), Dialect(0)),
        frames.negotiate(OfferWanted(1, 2)),
        *frames.answer(AnswerMade("v=0", sections, (candidate,)), Dialect(0), None),
        frames.error(ErrorCode.GLARE, "…"),
        frames.pong(None),
    ]


def check(schema: dict[str, Any], value: Any) -> None:
    """Assert that every object within has the described fields and the required ones."""
    if isinstance(value, list):
        for item in value:
            check(schema["items"], item)
    elif isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        for key, inner in value.items():
            if key in schema.get("properties", {}):
                check(schema["properties"][key], inner)
            else:
                check(schema["additionalProperties"], inner)
    elif "enum" in schema:
        assert value in schema["enum"]


def test_the_messages_of_the_server_are_those_described() -> None:
    described = spoken("serverSays")
    said = [json.loads(frames.encode(frame)) for frame in all_frames()]
    assert {frame["type"] for frame in said} == set(described)
    for frame in said:
        check(described[frame["type"]], frame["data"])


def test_the_codes_and_reasons_are_those_described() -> None:
    codes = set(spoken("serverSays")["error"]["properties"]["code"]["enum"])
    of_problems = set(
        document("openapi.yaml")["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    )
    assert codes | of_problems >= set(ErrorCode)
    reasons = spoken("serverSays")["participant-left"]["properties"]["reason"]["enum"]
    assert set(reasons) == set(LeaveReason)
    words = (DOCS / "protocol.md").read_text()
    assert [code for code in codes | of_problems if f"`{code}`" not in words] == []
    assert [name for name in spoken("clientSays") | spoken("serverSays") if f"`{name}`" not in words] == []
