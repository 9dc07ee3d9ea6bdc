"""Word of media that comes by another path than the selected one."""

import time

import pytest

from kaamos.media.engine import DatagramKind
from tests.support.media_peer import MediaPeer, engine_room, eventually
from tests.support.packets import receiver_report, rtp_packet

MOVED_S = 0.06  # MOVED_US


def moved(peer: MediaPeer) -> None:
    """Let a peer go on from another port, which is checked and not nominated."""
    peer.move()
    peer.engine.bind_path(peer.transport, peer.path)


async def test_media_by_another_bound_path_is_told_when_the_selected_one_is_silent() -> None:
    with engine_room() as room:
        peer = room.peer()
        peer.publish()
        moved(peer)
        time.sleep(MOVED_S)  # silence is what is looked for
        peer.send(rtp_packet(1))
        assert await peer.datagram() == (DatagramKind.MOVED, b"", peer.path)
        peer.engine.select_path(peer.transport, peer.path)
        eventually(lambda: room.counter("rtp_up") == 1)
        peer.send(rtp_packet(2))
        eventually(lambda: room.counter("rtp_up") == 2)
        assert peer.datagrams.empty()


async def test_reports_of_a_peer_that_only_watches_tell_too() -> None:
    with engine_room() as room:
        peer = room.peer()
        moved(peer)
        time.sleep(MOVED_S)
        peer.send_rtcp(receiver_report(1))
        assert (await peer.datagram())[0] is DatagramKind.MOVED


async def test_it_is_told_again_while_nobody_acts_but_not_with_every_packet() -> None:
    with engine_room() as room:
        peer = room.peer()
        peer.publish()
        moved(peer)
        time.sleep(MOVED_S)
        for number in range(1, 200):
            peer.send(rtp_packet(number))
        eventually(lambda: room.counter("rtp_up") == 199)
        await peer.datagram()
        time.sleep(MOVED_S)
        peer.send(rtp_packet(200))
        while (await peer.datagram())[0] is not DatagramKind.MOVED:
            pass
        assert peer.datagrams.qsize() < 20


@pytest.mark.parametrize("what", ["forged", "repeated"])
async def test_only_authentic_and_fresh_media_counts(what: str) -> None:
    with engine_room() as room:
        peer = room.peer()
        peer.publish()
        sealed = peer.seal(rtp_packet(1))
        peer.socket.send(sealed)
        eventually(lambda: room.counter("rtp_up") == 1)
        moved(peer)
        time.sleep(MOVED_S)
        peer.socket.send(sealed if what == "repeated" else sealed[:-1] + bytes([sealed[-1] ^ 1]))
        eventually(lambda: room.drops() != {})
        assert peer.datagrams.empty()


async def test_media_on_a_selected_path_that_is_not_silent_tells_nothing() -> None:
    with engine_room() as room:
        peer = room.peer()
        peer.publish()
        old = peer.socket.dup()
        old.connect(("127.0.0.1", room.engine.port))
        moved(peer)
        for number in range(2, 30, 2):
            old.send(peer.seal(rtp_packet(number)))
            peer.send(rtp_packet(number + 1))
        eventually(lambda: room.counter("rtp_up") == 28)
        old.close()
        assert peer.datagrams.qsize() <= 1  # a stall of this machine looks like silence


async def test_nothing_is_told_before_a_path_was_selected() -> None:
    with engine_room() as room:
        peer = room.peer(is_connected=False)
        peer.publish()
        peer.engine.set_keys(peer.transport, peer.keys)
        peer.engine.bind_path(peer.transport, peer.path)
        peer.send(rtp_packet(1))
        eventually(lambda: room.counter("rtp_up") == 1)
        assert peer.datagrams.empty()
