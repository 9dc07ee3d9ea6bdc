# Invariant: a STUN message is answered or raised only if aioice agrees that its integrity fits; an
# answer is at most 80 bytes, so nobody is amplified; everything else is dropped for one named reason.
"""Fuzz target of whole datagrams from anywhere: classes, paths, STUN; aioice is the second opinion."""

from aioice import stun

from kaamos._fastpath import DROP_NAMES, parse_stun, stun_integrity_ok
from tests.support.manual_room import LOOPBACK, manual_room

PWD = b"p" * 22
STRANGER_IP = bytes([192, 0, 2, 1])


def fuzz_one(data: bytes) -> None:
    data = data[:1536]
    parsed = parse_stun(data)
    if parsed is not None:
        username, integrity_at, _, _ = parsed
        assert username is None or username in data
        if integrity_at:
            stun_integrity_ok(data, integrity_at, PWD)
    with manual_room() as room:
        ada = room.peer()
        for remote_ip, port in ((LOOPBACK, ada.port), (STRANGER_IP, 4000), (bytes(15) + b"\x01", 4000)):
            local_ip = LOOPBACK if len(remote_ip) == 4 else remote_ip
            before = room.worker.counters()
            reason = room.worker.datagram(data, remote_ip, port, local_ip, room.now_us, room.now_ntp)
            assert reason is None or reason in DROP_NAMES
            after = room.worker.counters()
            answers = ada.received()
            is_answered = after["stun_answered"] > before["stun_answered"]
            is_raised = after["stun_raised"] > before["stun_raised"]
            assert len(answers) == is_answered
            if is_answered:
                _check_answer(data, answers[0])
            if is_answered or is_raised:
                assert reason is None
            if is_raised and data[:2] == b"\x00\x01":
                assert _aioice_agrees(data)
            events = room.worker.take_events(False, 9) + room.worker.take_events(True, 9)
            assert len(events) == (is_raised or after["dtls_raised"] > before["dtls_raised"])
            assert all(event[2:] == (data, remote_ip, port, local_ip) for event in events)


def _aioice_agrees(data: bytes) -> bool:
    """Compare by the rules both know: what stands behind MESSAGE-INTEGRITY may be anything for us."""
    parsed = parse_stun(data)
    assert parsed is not None
    end = parsed[1] + 24
    message = data[:2] + (end - 20).to_bytes(2, "big") + data[4:end]
    try:
        return stun.parse_message(message).check_message_integrity(PWD)
    except ValueError:
        return True  # an attribute that aioice reads and we do not: its receiver drops the message


def _check_answer(request: bytes, answer: bytes) -> None:
    assert len(answer) <= 80
    message = stun.parse_message(answer)
    assert message.check_message_integrity(PWD)
    assert message.transaction_id == request[8:20]
    assert _aioice_agrees(request)
