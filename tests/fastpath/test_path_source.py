"""Answers leave from the address that was asked, on hosts that have several."""

import asyncio
import socket

import pytest

from kaamos.media.engine import DatagramKind
from tests.support.media_peer import EngineRoom, engine_room
from tests.support.packets import VP8_KEYFRAME, rtp_packet
from tests.support.required import address_family

# The peers' sockets are connected: what comes from another address than the one they sent to never
# reaches them, and the wait for it fails.
ADDRESSES = ["127.0.0.1", "127.0.0.2", "127.9.8.7", "::1"]


def need(room: EngineRoom, server_ip: str) -> None:
    address_family(server_ip, has_ipv6=room.engine.has_ipv6)


@pytest.mark.parametrize("server_ip", ADDRESSES)
async def test_a_check_answered_natively_comes_from_the_address_that_was_asked(server_ip: str) -> None:
    with engine_room() as room:
        need(room, server_ip)
        peer = room.peer(server_ip=server_ip)
        peer.socket.send(peer.binding_request())
        answer = peer.receive_stun()
        assert answer.check_message_integrity(peer.pwd.encode())
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == peer.path[:2]
        assert room.counter("stun_answered") == 1


@pytest.mark.parametrize("server_ip", ADDRESSES)
async def test_media_comes_from_the_address_that_was_asked(server_ip: str) -> None:
    with engine_room() as room:
        need(room, server_ip)
        ada, grace = room.peer(), room.peer(server_ip=server_ip)
        grace.subscribe(ada.publish())
        ada.send(rtp_packet(1, payload=VP8_KEYFRAME))
        assert grace.open(grace.receive_rtp()).endswith(VP8_KEYFRAME)


@pytest.mark.parametrize("server_ip", ADDRESSES)
async def test_a_request_for_a_key_frame_comes_from_the_address_that_was_asked(server_ip: str) -> None:
    with engine_room() as room:
        need(room, server_ip)
        ada, grace = room.peer(server_ip=server_ip), room.peer()
        grace.subscribe(ada.publish())
        assert ada.receive_rtcp(206)


@pytest.mark.parametrize("server_ip", ADDRESSES)
async def test_what_python_is_given_names_the_address_and_what_python_sends_leaves_from_it(
    server_ip: str,
) -> None:
    with engine_room() as room:
        need(room, server_ip)
        peer = room.peer(server_ip=server_ip, is_connected=False)
        request = peer.binding_request()
        peer.socket.send(request)
        assert await peer.datagram() == (DatagramKind.STUN, request, peer.path)
        room.engine.send(peer.path, b"\x01\x01 an answer")
        assert peer.socket.recv(2000) == b"\x01\x01 an answer"


async def test_two_peers_on_two_of_our_addresses_are_answered_from_both_in_one_batch() -> None:
    with engine_room() as room:
        ada = room.peer()
        uptrack = ada.publish()
        addresses = [ip for ip in ADDRESSES if ":" not in ip or room.engine.has_ipv6]
        watchers = [room.peer(server_ip=addresses[i % len(addresses)]) for i in range(12)]
        for watcher in watchers:
            watcher.subscribe(uptrack)
        for seq in range(20):
            ada.send(rtp_packet(seq, payload=VP8_KEYFRAME + bytes([seq])))
            for watcher in watchers:
                assert watcher.open(watcher.receive_rtp()).endswith(bytes([seq]))


async def test_the_same_remote_port_asking_two_of_our_addresses_is_two_paths() -> None:
    with engine_room() as room:
        peer = room.peer(server_ip="127.0.0.2")
        ip, port = peer.path[:2]
        peer.socket.close()  # the port is for another socket, which is not connected
        request = peer.binding_request()
        # From a socket that is bound like the path's but asks another address: not this path.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((ip, port))
            other.sendto(request, ("127.0.0.1", room.engine.port))
            kind, data, path = await peer.datagram()
            assert (kind, data) == (DatagramKind.STUN, request)
            assert path == (ip, port, "127.0.0.1")
            other.sendto(request, ("127.0.0.2", room.engine.port))
            other.settimeout(10)
            data, source = await asyncio.to_thread(other.recvfrom, 2000)
            assert source == ("127.0.0.2", room.engine.port)
