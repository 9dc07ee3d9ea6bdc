"""Two generations of ICE credentials on one transport, while an ICE restart is under way."""

import os

import pytest

from kaamos.errors import LocalProtocolError
from kaamos.media.engine import DatagramKind, Engine
from tests.support.media_peer import MediaPeer, connected, engine_room, eventually
from tests.support.packets import VP8_KEYFRAME, rtp_packet

NEW_UFRAG, NEW_PWD = "next", "n" * 22


def new_check(peer: MediaPeer) -> bytes:
    """Return a check of the restarted peer."""
    return peer.binding_request({"ICE-CONTROLLING": 1, "USERNAME": f"{NEW_UFRAG}:theirs"}, pwd=NEW_PWD)


async def test_a_check_of_the_new_generation_is_for_python_even_on_the_path_in_use() -> None:
    with engine_room() as room:
        peer = room.peer()
        room.engine.add_credentials(peer.transport, NEW_UFRAG, NEW_PWD)
        peer.socket.send(new_check(peer))
        kind, data, path = await peer.datagram()
        assert (kind, path) == (DatagramKind.STUN, peer.path) and NEW_UFRAG.encode() in data
        peer.socket.send(peer.binding_request())
        assert peer.receive_stun().check_message_integrity(peer.pwd.encode())


async def test_the_generation_that_stays_is_answered_natively_and_the_other_is_a_stranger() -> None:
    with engine_room() as room:
        peer = room.peer()
        room.engine.add_credentials(peer.transport, NEW_UFRAG, NEW_PWD)
        room.engine.remove_credentials(peer.transport, peer.ufrag)
        peer.socket.send(new_check(peer))
        assert peer.receive_stun().check_message_integrity(NEW_PWD.encode())
        peer.socket.send(peer.binding_request())
        eventually(lambda: "stun_unknown_ufrag" in room.drops())
        assert room.counter("stun_raised") == 0


async def test_a_restart_that_came_to_nothing_leaves_the_old_generation_as_it_was() -> None:
    with engine_room() as room:
        peer = room.peer()
        for _ in range(3):
            room.engine.add_credentials(peer.transport, NEW_UFRAG, NEW_PWD)
            room.engine.remove_credentials(peer.transport, NEW_UFRAG)
        peer.socket.send(new_check(peer))
        peer.socket.send(peer.binding_request())
        assert peer.receive_stun().check_message_integrity(peer.pwd.encode())
        assert room.drops() == {"stun_unknown_ufrag": 1}


async def test_a_third_generation_and_credentials_that_are_not_there_are_misuse() -> None:
    with engine_room() as room:
        peer = room.peer()
        room.engine.add_credentials(peer.transport, NEW_UFRAG, NEW_PWD)
        with pytest.raises(LocalProtocolError, match="two generations"):
            room.engine.add_credentials(peer.transport, "third", NEW_PWD)
        with pytest.raises(LocalProtocolError):
            room.engine.remove_credentials(peer.transport, "third")


async def test_thousands_of_generations_leave_nothing_in_the_table() -> None:
    with engine_room() as room:
        peers = [room.peer() for _ in range(3)]
        for number in range(3000):
            peer = peers[number % 3]
            room.engine.add_credentials(peer.transport, f"g{number}", NEW_PWD)
            if number % 2:
                room.engine.remove_credentials(peer.transport, f"g{number}")
            else:
                room.engine.remove_credentials(peer.transport, peer.ufrag)
                peer.ufrag, peer.pwd = f"g{number}", NEW_PWD
            peer.socket.send(peer.binding_request())
            assert peer.receive_stun().check_message_integrity(peer.pwd.encode())
        assert room.drops() == {}


async def test_more_credentials_than_the_table_began_with_are_found() -> None:
    engine = Engine(port=0)
    engine.open()
    try:
        peers = [MediaPeer(engine, number) for number in range(3)]
        others = [engine.add_transport(f"u{n}", os.urandom(11).hex(), lambda *_: None) for n in range(400)]
        for number, transport in enumerate(others):
            engine.add_credentials(transport, f"v{number}", NEW_PWD)
        for peer in peers:
            peer.connect()
            peer.socket.send(peer.binding_request())
            assert peer.receive_stun().check_message_integrity(peer.pwd.encode())
            peer.close()
    finally:
        engine.close()


async def test_without_consent_media_goes_nowhere_until_a_path_is_selected_again() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        ada.send(rtp_packet(1, payload=VP8_KEYFRAME))
        assert grace.receive_rtp()
        room.engine.deselect_path(grace.transport)
        ada.send(rtp_packet(2, payload=VP8_KEYFRAME))
        eventually(lambda: room.drops().get("no_path") == 1)
        room.engine.select_path(grace.transport, grace.path)
        ada.send(rtp_packet(3, payload=VP8_KEYFRAME))
        assert grace.open(grace.receive_rtp())[12:].endswith(VP8_KEYFRAME[1:])
