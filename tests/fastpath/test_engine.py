"""The engine over real sockets: fan-out, changes while packets fly, addresses, limits."""

import asyncio
import gc
import os
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from aioice import stun

from kaamos._fastpath import ManualWorker
from kaamos.errors import EngineError, LocalProtocolError
from kaamos.media.description import Path, SrtpKeys, SrtpProfile, TransportId, UpTrackId
from kaamos.media.engine import DatagramKind, Engine
from tests.support.manual_room import ManualRoom, down_settings, manual_room, up_settings
from tests.support.media_peer import VIDEO, MediaPeer, connected, engine_room, eventually, slot
from tests.support.packets import (
    VP8_KEYFRAME,
    nack,
    read_rtp,
    rtp_packet,
)

every_profile = pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)


def media(seq: int, ssrc: int = 0x1234) -> bytes:
    """A packet that any subscriber can start at, and that is like no other."""
    return rtp_packet(seq, ssrc=ssrc, timestamp=seq * 3000, payload=VP8_KEYFRAME + seq.to_bytes(4, "big"))


# -- the main job


@every_profile
async def test_each_subscriber_gets_each_packet_in_its_own_numbering(profile: SrtpProfile) -> None:
    with engine_room(profile) as room:
        ada, *watchers = [room.peer() for _ in range(6)]
        uptrack = ada.publish()
        for i, watcher in enumerate(watchers):
            watcher.subscribe(uptrack, ssrc=0x700 + i)
        for seq in range(65_500, 65_600):
            ada.send(media(seq))
            if seq % 10 == 9:
                for i, watcher in enumerate(watchers):
                    got = [read_rtp(watcher.open(watcher.receive_rtp())) for _ in range(10)]
                    assert [p.payload for p in got] == [
                        VP8_KEYFRAME + n.to_bytes(4, "big") for n in range(seq - 9, seq + 1)
                    ]
                    assert {(p.ssrc, p.payload_type) for p in got} == {(0x700 + i, 100)}
                    assert [p.seq - got[0].seq & 0xFFFF for p in got] == list(range(10))
                    assert [p.timestamp - got[0].timestamp & 0xFFFFFFFF for p in got] == [
                        3000 * n for n in range(10)
                    ]
        stats = room.engine.uptrack_stats(uptrack)
        assert (stats.packets, stats.keyframes) == (100, 100)
        assert room.drops() == {}


async def test_people_come_and_go_while_packets_fly_and_nobody_else_notices() -> None:
    rng = random.Random(8)
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = connected(ada, grace)
        restless = room.peer()
        downtrack = restless.subscribe(uptrack, ssrc=0x888)
        others: list[MediaPeer] = []
        expected = None
        for seq in range(1500):
            ada.send(media(seq))
            match rng.randrange(6):
                case 0:
                    others.append(room.peer())
                    others[-1].subscribe(uptrack, ssrc=rng.randrange(1 << 32))
                case 1 if others:
                    leaver = others.pop(rng.randrange(len(others)))
                    room.engine.remove_transport(leaver.transport)
                    leaver.close()
                    room.peers.remove(leaver)
                case 2:
                    room.engine.connect(downtrack, uptrack)
                case 3:
                    room.engine.disconnect(downtrack)
                case 4:
                    other = restless.publish(replace(VIDEO, mid=f"m{seq}", ssrcs=(seq,)))
                    room.engine.connect(downtrack, other)
                    room.engine.remove_uptrack(other)
                case 5:
                    room.engine.update_uptrack(uptrack, VIDEO)
            got = read_rtp(grace.open(grace.receive_rtp()))
            assert got.payload == VP8_KEYFRAME + seq.to_bytes(4, "big")
            assert expected is None or got.seq == expected
            expected = got.seq + 1 & 0xFFFF


async def test_what_the_restless_subscriber_gets_never_repeats_a_number() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = ada.publish()
        downtrack = grace.subscribe(uptrack)
        seen: list[int] = []
        for seq in range(300):
            ada.send(media(seq))
            got = read_rtp(grace.open(grace.receive_rtp()))  # a nonce used twice would be refused as replay
            seen.append(got.seq)
            room.engine.disconnect(downtrack)
            room.engine.connect(downtrack, uptrack)
        assert [number - seen[0] & 0xFFFF for number in seen] == list(range(300))


async def test_a_peer_that_reconnects_with_a_new_transport_from_the_same_port_is_served() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = connected(ada, grace)
        ada.send(media(1))
        grace.receive_rtp()
        again = MediaPeer(room.engine, 99)
        again.socket.close()
        again.socket = grace.socket  # same address, new credentials and keys; the old transport still stands
        again.connect()
        again.subscribe(uptrack, ssrc=0x999)
        room.engine.remove_transport(grace.transport)
        ada.send(media(2))
        data = again.receive_rtp()
        got = read_rtp(again.open(data))
        assert (got.ssrc, got.payload) == (0x999, VP8_KEYFRAME + (2).to_bytes(4, "big"))
        again.send_rtcp(nack(1, 0x999, (got.seq, 0)))
        assert again.receive_rtp() == data


async def test_a_publisher_that_leaves_and_comes_back_is_seen_again_in_the_same_slot() -> None:
    with engine_room() as room:
        grace = room.peer()
        ada = room.peer()
        downtrack = grace.subscribe(ada.publish())
        numbers = []
        for _ in range(5):
            ada.send(media(60_000))
            numbers.append(read_rtp(grace.open(grace.receive_rtp())).seq)
            room.engine.remove_transport(ada.transport)
            ada = room.peer()
            room.engine.connect(downtrack, ada.publish())
        assert [number - numbers[0] & 0xFFFF for number in numbers] == [0, 1, 2, 3, 4]


async def test_a_transport_that_leaves_is_told_bye_also_when_the_engine_closes() -> None:
    with engine_room() as room:
        ada, grace, bob = (room.peer() for _ in range(3))
        connected(ada, grace, bob)
        ada.send(media(1))
        for watcher in (grace, bob):
            watcher.receive_rtp()
        room.engine.remove_transport(grace.transport)
        assert grace.receive_rtcp(203)
        room.engine.close()
        assert bob.receive_rtcp(203)
        assert [t.name for t in threading.enumerate() if t.name.startswith("kaamos-media")] == []


# -- opening


async def test_a_second_server_on_the_port_is_refused_in_one_sentence() -> None:
    with engine_room() as room:
        second = Engine(port=room.engine.port)
        with pytest.raises(EngineError, match=rf"port {room.engine.port} is in use"):
            second.open()
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        ada.send(media(1))
        assert grace.open(grace.receive_rtp())  # the first one goes on


async def test_a_port_taken_on_ipv6_only_is_noticed_too() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            taken.bind(("::", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match="is in use"):
            Engine(port=port).open()


async def test_a_closed_engine_frees_its_port_and_refuses_work() -> None:
    engine = Engine(port=0)
    engine.open()
    port = engine.port
    engine.close()
    engine.close()
    again = Engine(port=port)
    again.open()
    again.close()
    with pytest.raises(LocalProtocolError):
        engine.add_transport("u", "p", lambda *_: None)


async def test_keys_are_taken_once_and_only_of_the_right_length() -> None:
    with engine_room() as room:
        ada = room.peer()
        with pytest.raises(LocalProtocolError):
            room.engine.set_keys(ada.transport, ada.keys)
        for profile in SrtpProfile:
            wrong = bytes(profile.key_and_salt_bytes - 1)
            with pytest.raises(LocalProtocolError):
                room.engine.set_keys(ada.transport, SrtpKeys(profile, wrong, wrong))


# -- paths


async def test_an_address_change_is_checked_by_ice_and_then_followed() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        ada.send(media(1))
        first = read_rtp(grace.open(grace.receive_rtp()))
        grace.move()
        request = grace.binding_request()
        grace.socket.send(request)
        kind, data, path = await grace.datagram()  # an unknown path: not answered, but handed to ICE
        assert (kind, data, path) == (DatagramKind.STUN, request, grace.path)
        room.engine.select_path(grace.transport, path)
        ada.send(media(2))
        assert read_rtp(grace.open(grace.receive_rtp())).seq == first.seq + 1 & 0xFFFF
        grace.socket.send(request)
        assert grace.receive_stun().transaction_id == data[8:20]


async def test_media_from_a_path_that_ice_did_not_check_is_dropped() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        ada.move()
        ada.send(media(1))
        eventually(lambda: room.drops() == {"unknown_path": 1})


async def test_a_bound_path_is_known_and_the_selected_one_gets_the_media() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        connected(ada, grace)
        old = grace.socket
        grace.socket = grace._open_socket()
        room.engine.bind_path(grace.transport, grace.path)
        grace.socket.send(b"\x16\xfe\xfd a DTLS record")
        assert await grace.datagram() == (DatagramKind.DTLS, b"\x16\xfe\xfd a DTLS record", grace.path)
        ada.send(media(1))
        assert old.recv(2000)
        old.close()


async def test_the_oldest_unused_path_is_forgotten_when_there_are_too_many() -> None:
    with engine_room() as room:
        ada = room.peer()
        sockets = [ada.socket]
        for _ in range(33):  # MAX_PATHS is 32; the first is selected, so the second and third have to go
            ada.socket = ada._open_socket()
            sockets.append(ada.socket)
            room.engine.bind_path(ada.transport, ada.path)
        for i, sock in enumerate(sockets):
            sock.send(b"\x16\xfe\xfd" + bytes([i]) * 8)
        known = {(await ada.datagram())[1][3] for _ in range(32)}
        assert known == {0, *range(3, 34)}
        eventually(lambda: room.drops() == {"unknown_path": 2})
        for sock in sockets:
            sock.close()


async def test_a_path_belongs_to_the_transport_that_bound_it_last() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer(is_connected=False)
        room.engine.bind_path(grace.transport, ada.path)
        ada.socket.send(b"\x16\xfe\xfd for whom?")
        assert (await grace.datagram())[1] == b"\x16\xfe\xfd for whom?"
        assert ada.datagrams.empty()
        room.engine.remove_transport(ada.transport)
        ada.socket.send(b"\x16\xfe\xfd still?..")
        assert (await grace.datagram())[1] == b"\x16\xfe\xfd still?.."


async def test_a_peer_cannot_take_the_path_of_one_that_is_alive() -> None:
    """Whoever forges the source of his checks would else silence the peer that lives there."""
    with engine_room() as room:
        ada, mallory = room.peer(), room.peer(is_connected=False)
        ada.socket.send(ada.binding_request())
        ada.receive_stun()
        assert not room.engine.bind_path(mallory.transport, ada.path)
        assert not room.engine.select_path(mallory.transport, ada.path)
        ada.socket.send(b"\x16\xfe\xfd still mine")
        assert (await ada.datagram())[1] == b"\x16\xfe\xfd still mine"
        assert mallory.datagrams.empty()


async def test_an_error_in_one_receiver_costs_the_others_nothing() -> None:
    with engine_room() as room:
        ada, grace = room.peer(), room.peer()
        errors: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        room.engine._receivers[ada.transport] = lambda *_: 1 / 0  # type: ignore[assignment]
        for sock in (ada.socket, grace.socket, grace.socket):
            sock.send(b"\x16\xfe\xfd hello")
        eventually(lambda: room.counter("dtls_raised") == 3)  # one round for all of them
        for _ in range(2):
            assert (await grace.datagram())[1] == b"\x16\xfe\xfd hello"
        assert [type(error["exception"]) for error in errors] == [ZeroDivisionError]


async def test_unknown_ids_are_our_own_mistake() -> None:
    with engine_room() as room:
        ada = room.peer()
        with pytest.raises(LocalProtocolError):
            room.engine.set_keys(TransportId(4711), ada.keys)
        with pytest.raises(LocalProtocolError):
            room.engine.remove_uptrack(UpTrackId(4711))


@pytest.mark.parametrize(
    ("attributes", "is_native"),
    [
        ({"ICE-CONTROLLING": 1}, True),
        ({"ICE-CONTROLLING": 1, "USE-CANDIDATE": None}, True),
        ({"ICE-CONTROLLED": 1}, False),  # a role conflict
        ({"ICE-CONTROLLING": 1, "CHANGE-REQUEST": 0}, False),  # an attribute that must be understood
    ],
)
async def test_only_plain_checks_of_the_selected_path_are_answered_natively(
    attributes: dict[str, object], is_native: bool
) -> None:
    with engine_room() as room:
        ada = room.peer()
        request = ada.binding_request(attributes)
        ada.socket.send(request)
        if is_native:
            assert ada.receive_stun().message_class is stun.Class.RESPONSE
            assert ada.datagrams.empty()
        else:
            assert (await ada.datagram())[1] == request
        assert room.engine.last_received(ada.transport) > 0


# -- size


async def test_more_than_a_thousand_transports_are_all_found() -> None:
    count = 1300
    with engine_room() as room:
        first = room.peer()
        ids = []
        for i in range(count):
            transport = room.engine.add_transport(f"many{i}", "p" * 22, lambda *_: None)
            room.engine.select_path(
                transport, Path(str(IPv4Address(0x0A000000 + i)), 5000 + i % 7, "127.0.0.1")
            )
            ids.append(transport)
        last = room.peer()
        for transport in ids[::2]:
            room.engine.remove_transport(transport)
        middle = room.peer()
        peers = [first, last, middle]
        uptrack = connected(first, last, middle)
        assert uptrack
        for peer in peers:
            peer.socket.send(peer.binding_request())
            assert peer.receive_stun().check_message_integrity(peer.pwd.encode())
        first.send(media(1))
        for peer in (last, middle):
            assert peer.open(peer.receive_rtp())
        for transport in ids[1::2]:
            room.engine.remove_transport(transport)
        first.socket.send(first.binding_request())
        assert first.receive_stun()


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_memory_stays_flat_over_thousands_of_joins_and_leaves() -> None:
    with engine_room() as room:
        ada = room.peer()
        uptrack = ada.publish()
        path = Path("10.1.2.3", 5000, "127.0.0.1")

        def cycles(count: int) -> None:
            for i in range(count):
                transport = room.engine.add_transport(f"u{i}", "p" * 22, lambda *_: None)
                room.engine.select_path(transport, path)
                room.engine.set_keys(transport, ada.keys)
                theirs = room.engine.add_uptrack(transport, VIDEO)
                room.engine.update_uptrack(theirs, VIDEO)
                downtrack = room.engine.add_downtrack(transport, slot_config)
                room.engine.update_downtrack(downtrack, slot_config)
                room.engine.connect(downtrack, uptrack)
                room.engine.disconnect(downtrack)
                room.engine.connect(downtrack, theirs)
                room.engine.remove_transport(transport)
                if i % 20 == 19:  # or a busy machine would have hundreds waiting to be freed
                    ada.socket.send(ada.binding_request())
                    ada.receive_stun()  # everything before was applied
            gc.collect()

        slot_config = slot(0x777)
        cycles(300)
        before = resident_bytes()
        cycles(2000)
        # A transport leaked whole would be over 200 KB: its History alone.
        assert resident_bytes() - before < 24 << 20


def test_a_full_command_ring_is_an_error_and_the_worker_stays_usable() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada)
        downtrack = room.subscribe(grace, uptrack)
        worker = room.worker
        refused = 0
        for _ in range(9000):  # more than the ring holds; nobody takes from it
            try:
                worker.connect(downtrack, uptrack)
            except OverflowError:
                refused += 1
        assert refused == 9000 - 8192
        attempts: list[Callable[[], object]] = [
            lambda: worker.add_transport(b"u", b"p", b"c", 1),
            lambda: worker.remove_transport(ada.transport),
            lambda: worker.bind_path(ada.transport, bytes(4), 1, bytes(4), False, True),
            lambda: worker.add_uptrack(ada.transport, up_settings()),
            lambda: worker.update_uptrack(uptrack, up_settings()),
            lambda: worker.remove_uptrack(uptrack),
            lambda: worker.add_downtrack(ada.transport, True, 1, 1, 1, 1, down_settings()),
            lambda: worker.update_downtrack(downtrack, down_settings()),
            lambda: worker.disconnect(downtrack),
        ]
        for attempt in attempts:
            with pytest.raises(OverflowError):
                attempt()
        room.apply()
        room.send(ada, media(1))
        assert [packet.seq for packet in grace.media()] == [1000]
        worker.remove_transport(ada.transport)
        room.apply()


def test_ids_that_nobody_has_are_refused() -> None:
    with manual_room() as room:
        ada = room.peer()
        worker: ManualWorker = room.worker
        attempts: list[Callable[[], object]] = [
            lambda: worker.remove_transport(12345),
            lambda: worker.remove_uptrack(12345),
            lambda: worker.connect(ada.transport, ada.transport),
            lambda: worker.add_uptrack(12345, up_settings()),
            lambda: worker.downtrack_stats(12345),
            lambda: worker.last_received_us(12345),
        ]
        for attempt in attempts:
            with pytest.raises(KeyError):
                attempt()


def test_configurations_out_of_range_are_refused_and_change_nothing() -> None:
    with manual_room() as room:
        ada, grace = room.peer(), room.peer()
        uptrack = room.publish(ada)
        room.subscribe(grace, uptrack)
        worker = room.worker
        bad_up = [
            ([(128, 1, 1, 90000)], []),
            ([(96, 32, 1, 90000)], []),
            ([], [(10, 1)]),
            ([], [(0, 15)]),
            ([], [(0, 0)]),
        ]
        for types, extensions in bad_up:
            with pytest.raises(ValueError):
                worker.update_uptrack(uptrack, up_settings(types=types, extensions=extensions))
        bad_down = [
            down_settings(cname=b"c" * 65),
            down_settings(types=[(32, 96)]),
            down_settings(extensions=[(7, 1)]),  # between a publisher and us, never sent
            down_settings(rtx_ssrc=2, rtx_types=[(1, 128)]),
        ]
        for settings in bad_down:
            with pytest.raises(ValueError):
                worker.add_downtrack(ada.transport, True, 1, 1, 1, 1, settings)
        for first_seq, first_rtx_seq in ((1 << 15, 1), (1, 1 << 15)):
            with pytest.raises(ValueError):
                worker.add_downtrack(ada.transport, True, 1, first_seq, 1, first_rtx_seq, down_settings())
        with pytest.raises(ValueError):
            worker.update_uptrack(uptrack, up_settings(rtx_types=[(128, 96)]))
        with pytest.raises(ValueError):
            worker.add_transport(b"u" * 257, b"p", b"c", 1)
        with pytest.raises(ValueError):
            worker.bind_path(ada.transport, bytes(4), 1, bytes(16), False, True)
        with pytest.raises(ValueError):
            worker.bind_path(ada.transport, bytes(5), 1, bytes(5), False, True)
        room.apply()
        room.send(ada, media(1))
        assert [packet.seq for packet in grace.media()] == [1000]


# -- which section a packet belongs to


def two_sections(room: ManualRoom) -> tuple[int, int]:
    ada = room.peer()
    video = room.publish(ada, mid=b"v", ssrcs=())
    audio = room.publish(ada, mid=b"a", is_video=False, ssrcs=(0xAAAA,))
    return video, audio


def packets_of(room: ManualRoom, *uptracks: int) -> list[int]:
    return [room.worker.uptrack_stats(uptrack)[0] for uptrack in uptracks]


def test_an_announced_ssrc_decides_before_mid_and_payload_type() -> None:
    with manual_room() as room:
        video, audio = two_sections(room)
        room.send(
            room.peers[0],
            rtp_packet(1, ssrc=0xAAAA, payload_type=111, payload=b"o", extensions={3: b"v"}),
        )
        assert packets_of(room, video, audio) == [0, 1]


def test_mid_decides_where_the_ssrc_is_new_and_is_remembered() -> None:
    with manual_room() as room:
        ada = room.peer()
        one = room.publish(ada, mid=b"one", ssrcs=())
        two = room.publish(ada, mid=b"two", ssrcs=())
        assert room.send(ada, rtp_packet(1, ssrc=1)) == "unknown_ssrc"  # both sections have the payload type
        assert room.send(ada, rtp_packet(2, ssrc=1, extensions={3: b"two"})) is None
        assert room.send(ada, rtp_packet(3, ssrc=1)) is None
        assert room.send(ada, rtp_packet(1, ssrc=2, extensions={3: b"three"})) == "unknown_ssrc"
        assert packets_of(room, one, two) == [0, 2]


def test_a_payload_type_of_one_section_alone_decides_last() -> None:
    with manual_room() as room:
        video, audio = two_sections(room)
        assert room.send(room.peers[0], rtp_packet(1, ssrc=5)) is None
        assert room.send(room.peers[0], rtp_packet(1, ssrc=6, payload_type=5)) == "unknown_ssrc"
        assert packets_of(room, video, audio) == [1, 0]


def test_a_payload_type_that_was_not_negotiated_is_dropped_until_it_is() -> None:
    with manual_room() as room:
        ada = room.peer()
        uptrack = room.publish(ada)
        assert room.send(ada, rtp_packet(1, payload_type=98)) == "unknown_payload_type"
        room.worker.update_uptrack(uptrack, up_settings(types=[(98, 1, 1, 90000)], ssrcs=[0x1234]))
        room.apply()
        assert room.send(ada, rtp_packet(2, payload_type=98)) is None
        assert room.send(ada, rtp_packet(3, payload_type=96)) == "unknown_payload_type"


def test_a_packet_before_its_section_exists_is_dropped_and_found_later() -> None:
    with manual_room() as room:
        ada = room.peer()
        assert room.send(ada, rtp_packet(1)) == "unknown_ssrc"
        uptrack = room.publish(ada)
        assert room.send(ada, rtp_packet(2)) is None
        room.worker.remove_uptrack(uptrack)
        room.apply()
        assert room.send(ada, rtp_packet(3)) == "unknown_ssrc"
