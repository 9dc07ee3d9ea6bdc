# Invariant: whatever the frame, a session answers with events and never raises; an error frame it
# replies with is JSON of bounded length; it never delivers anything but a join before a join.
"""Fuzz target of the signaling decoder and session."""

import json

from kaamos.signaling import frames, messages
from kaamos.signaling.messages import Join
from kaamos.signaling.session import Deliver, Reply, Session


def fuzz_one(data: bytes) -> None:
    session = Session(join_timeout_s=10, messages_per_second=0, now=0.0)
    # The frame as it is, after a join, and wrapped so that mutations reach the fields of each type.
    for event in session.receive(data, 0.0):
        assert not isinstance(event, Deliver) or isinstance(event.message, Join)
        _check(event)
    session.joined()
    text = data.decode("utf-8", "replace")
    wrapped = [f'{{"type":"{name}","data":{text}}}'.encode() for name in messages.CLIENT_TYPES]
    lifted = [f'{{"type":"{name}",{text}}}'.encode() for name in messages.CLIENT_TYPES]
    for frame in (data, *wrapped, *lifted):
        for event in session.receive(frame, 1.0):
            _check(event)


def _check(event: object) -> None:
    if isinstance(event, Reply):
        text = frames.encode(event.frame)
        assert len(text) < 2000
        assert json.loads(text)["type"] == "error"
