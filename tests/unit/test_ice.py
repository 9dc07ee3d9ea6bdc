"""The ICE agent: scripted peers for what a well-behaved library never sends, aioice for the rest."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator

import aioice
import pytest
from aioice import stun

from kaamos.media.description import Path
from kaamos.rtc import ice
from kaamos.rtc.ice import MAX_LOCAL_ADDRESSES, MAX_PAIRS, MAX_ROLE_CONFLICTS, IceAgent, parse_stun
from tests.support.ortc import eventually, only_tasks

A = Path("192.0.2.1", 5000, "198.51.100.1")
B = Path("192.0.2.1", 5001, "198.51.100.1")
C = Path("192.0.2.1", 5000, "198.51.100.2")
REMOTE_UFRAG, REMOTE_PWD = "theirs", "p" * 22


class Wire:
    """An agent without a network: what it sends and says is kept, a peer is played by hand."""

    def __init__(self) -> None:
        self.sent: list[tuple[Path, stun.Message]] = []
        self.bound: list[Path] = []
        self.selected: list[Path] = []
        self.taken: set[Path] = set()  # paths that belong to other peers
        self.losses = 0
        self.agent = IceAgent(7882, send=self._keep, bind=self._bind, select=self._select, on_lost=self._lose)
        self.connecting: asyncio.Task[None] | None = None

    def _keep(self, path: Path, data: bytes) -> None:
        self.sent.append((path, stun.parse_message(data)))

    def _bind(self, path: Path) -> bool:
        if path not in self.taken:
            self.bound.append(path)
        return path not in self.taken

    def _select(self, path: Path) -> bool:
        self.selected.append(path)
        return True

    def _lose(self) -> None:
        self.losses += 1

    def connect(self) -> asyncio.Task[None]:
        self.connecting = asyncio.create_task(self.agent.connect(REMOTE_UFRAG, REMOTE_PWD))
        return self.connecting

    def check(self, path: Path, *, nominate: bool = False, without: str = "", **attributes: object) -> None:
        """Send a binding request of the peer, right in all but what is asked for."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        request.attributes["USERNAME"] = f"{self.agent.ufrag}:{REMOTE_UFRAG}"
        request.attributes["PRIORITY"] = 1853824767
        if "ICE_CONTROLLED" not in attributes:
            request.attributes["ICE-CONTROLLING"] = 1
        if nominate:
            request.attributes["USE-CANDIDATE"] = None
        for name, value in attributes.items():
            request.attributes[name.replace("_", "-")] = value
        request.attributes.pop(without, None)
        request.add_message_integrity(self.agent.pwd.encode())
        self.receive(bytes(request), path)

    def receive(self, data: bytes, path: Path) -> None:
        message = parse_stun(data)
        if message is not None:
            self.agent.receive(message, path)

    def requests(self, path: Path | None = None) -> list[stun.Message]:
        return [m for p, m in self.sent if m.message_class is stun.Class.REQUEST and path in (None, p)]

    def successes(self, path: Path) -> list[stun.Message]:
        return [m for p, m in self.sent if m.message_class is stun.Class.RESPONSE and p == path]

    def answer(self, request: stun.Message, path: Path, *, code: int | None = None) -> None:
        """Answer a check of the agent."""
        kind = stun.Class.RESPONSE if code is None else stun.Class.ERROR
        response = stun.Message(stun.Method.BINDING, kind, request.transaction_id)
        if code is None:
            response.attributes["XOR-MAPPED-ADDRESS"] = (path.local_ip, 7882)
        else:
            response.attributes["ERROR-CODE"] = (code, "Role Conflict")
        response.add_message_integrity(REMOTE_PWD.encode())
        self.receive(bytes(response), path)

    async def answer_check(self, path: Path) -> None:
        """Wait for a check on this path, answer the newest with success and let that sink in."""
        await eventually(lambda: self.requests(path))
        request = self.requests(path)[-1]
        self.answer(request, path)
        transactions = self.agent._addresses[path.local_ip].transactions
        await eventually(lambda: request.transaction_id not in transactions)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    before = asyncio.all_tasks()
    wire = Wire()
    yield wire
    await wire.agent.close()
    if wire.connecting is not None:
        await asyncio.wait([wire.connecting])
        wire.connecting.exception()
    await only_tasks(before)
    assert not wire.agent._addresses
    assert not wire.agent._connection._protocols


async def connected_on(wire: Wire, path: Path) -> None:
    connecting = wire.connect()
    wire.check(path, nominate=True)
    await wire.answer_check(path)
    await connecting


async def test_the_credentials_are_long_enough_and_new_each_time(wire: Wire) -> None:
    other = Wire()
    assert len(wire.agent.ufrag) >= 8 and len(wire.agent.pwd) >= 22
    assert wire.agent.ufrag != other.agent.ufrag and wire.agent.pwd != other.agent.pwd
    await other.agent.close()


async def test_a_nominated_and_checked_path_is_selected(wire: Wire) -> None:
    await connected_on(wire, A)
    assert wire.bound == [A] and wire.selected == [A] and wire.agent.selected_path == A


async def test_nothing_is_sent_to_a_peer_that_has_not_spoken(wire: Wire) -> None:
    wire.connect()
    await asyncio.sleep(0)
    assert wire.sent == []


async def test_a_path_is_bound_only_by_an_authenticated_check(wire: Wire) -> None:
    wire.connect()
    await asyncio.sleep(0)
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{wire.agent.ufrag}:{REMOTE_UFRAG}"
    request.attributes["PRIORITY"] = 1
    request.add_message_integrity(b"a wrong password")
    wire.receive(bytes(request), A)
    wire.check(A, USERNAME=f"{wire.agent.ufrag}:somebody")
    assert wire.bound == [] and wire.requests() == []
    wire.check(A)
    assert wire.bound == [A]


async def test_a_check_from_the_path_of_another_living_peer_is_not_answered_until_that_one_is_gone(
    wire: Wire,
) -> None:
    wire.connect()
    wire.taken.add(A)
    wire.check(A, nominate=True)
    assert wire.successes(A) == [] and wire.bound == []
    wire.taken.clear()
    wire.check(A, nominate=True)
    assert len(wire.successes(A)) == 1 and wire.bound == [A]


async def test_a_path_that_is_not_nominated_is_not_selected(wire: Wire) -> None:
    wire.connect()
    wire.check(A)
    await wire.answer_check(A)
    wire.check(B)
    assert wire.selected == []
    wire.check(A, nominate=True)
    assert wire.selected == [A]


async def test_checks_that_come_before_the_peer_is_known_count(wire: Wire) -> None:
    wire.check(A, nominate=True)
    assert wire.successes(A) and wire.bound == [A]
    connecting = wire.connect()
    await wire.answer_check(A)
    await connecting
    assert wire.selected == [A]


async def test_a_check_is_answered_from_the_address_that_it_came_to(wire: Wire) -> None:
    connecting = wire.connect()
    wire.check(C, nominate=True)
    assert wire.successes(C)
    await wire.answer_check(C)
    await connecting
    assert wire.selected == [C] and {path for path, _ in wire.sent} == {C}


async def test_a_request_without_priority_is_served(wire: Wire) -> None:
    connecting = wire.connect()
    wire.check(A, nominate=True, without="PRIORITY")
    await wire.answer_check(A)
    await connecting


async def test_the_peer_moves_to_another_path_by_nominating_it(wire: Wire) -> None:
    await connected_on(wire, A)
    wire.check(B)
    await wire.answer_check(B)
    assert wire.selected == [A]
    wire.check(B, nominate=True)
    assert wire.selected == [A, B] and wire.agent.selected_path == B
    wire.check(A, nominate=True)
    assert wire.selected == [A, B, A]


async def test_media_is_followed_to_a_path_that_was_checked_and_not_nominated(wire: Wire) -> None:
    await connected_on(wire, A)
    wire.agent.follow(B)
    wire.check(B)
    await eventually(lambda: wire.requests(B))
    wire.agent.follow(B)
    assert wire.selected == [A], "it has not answered our check"
    await wire.answer_check(B)
    wire.agent.follow(B)
    wire.agent.follow(B)
    assert wire.selected == [A, B] and wire.agent.selected_path == B
    wire.agent.follow(C)
    assert wire.selected == [A, B]


async def test_media_is_not_followed_before_the_first_nomination(wire: Wire) -> None:
    wire.connect()
    wire.check(A)
    await wire.answer_check(A)
    wire.agent.follow(A)
    assert wire.selected == []


async def test_consent_is_asked_for_on_the_path_that_media_was_followed_to(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.002)
    await connected_on(wire, A)
    wire.check(B)
    await wire.answer_check(B)
    wire.agent.follow(B)
    before = len(wire.requests(B))
    await eventually(lambda: len(wire.requests(B)) > before)


async def test_a_path_is_selected_once_however_often_it_is_nominated(wire: Wire) -> None:
    await connected_on(wire, A)
    connection = wire.agent._connection
    for _ in range(3):
        connection.check_complete(connection._nominated[1])
    assert wire.selected == [A]


async def test_a_check_on_the_selected_path_selects_it_again(wire: Wire) -> None:
    # The engine answers such checks by itself, unless it has given the path to another transport.
    await connected_on(wire, A)
    wire.check(A)
    assert wire.selected == [A, A] and wire.bound == [A]


async def test_a_path_whose_check_was_cut_short_by_the_first_nomination_can_be_taken_later(
    wire: Wire,
) -> None:
    connecting = wire.connect()
    wire.check(B)
    await eventually(lambda: wire.requests(B))
    wire.check(A, nominate=True)
    await wire.answer_check(A)
    await connecting
    before = len(wire.requests(B))
    wire.check(B, nominate=True)
    await eventually(lambda: len(wire.requests(B)) > before)
    await wire.answer_check(B)
    await eventually(lambda: wire.selected == [A, B])


async def test_an_answer_that_comes_over_another_path_does_not_complete_a_check(wire: Wire) -> None:
    wire.connect()
    wire.check(A, nominate=True)
    await eventually(lambda: wire.requests(A))
    wire.answer(wire.requests(A)[0], C)
    wire.answer(wire.requests(A)[0], B)
    await asyncio.sleep(0)
    assert wire.selected == []


async def test_an_answer_with_a_wrong_integrity_does_not_complete_a_check(wire: Wire) -> None:
    connecting = wire.connect()
    wire.check(A, nominate=True)
    await eventually(lambda: wire.requests(A))
    forged = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, wire.requests(A)[0].transaction_id)
    forged.attributes["XOR-MAPPED-ADDRESS"] = (A.local_ip, 7882)
    forged.add_message_integrity(b"a wrong password")
    wire.receive(bytes(forged), A)
    assert wire.selected == []
    await wire.answer_check(A)
    await connecting


async def test_a_role_conflict_that_we_win_makes_the_peer_switch(wire: Wire) -> None:
    wire.agent._connection._tie_breaker = 0
    wire.connect()
    wire.check(A, ICE_CONTROLLED=5)
    (_, refusal), *_ = wire.sent
    assert refusal.error_code == 487 and wire.bound == []


async def test_a_role_conflict_that_we_lose_makes_us_nominate(wire: Wire) -> None:
    wire.agent._connection._tie_breaker = 7
    connecting = wire.connect()
    wire.check(A, ICE_CONTROLLED=5)
    await eventually(lambda: wire.requests(A))
    assert "USE-CANDIDATE" in wire.requests(A)[0].attributes
    await wire.answer_check(A)
    await connecting
    assert wire.selected == [A]


async def test_a_peer_that_always_answers_role_conflict_is_not_asked_for_ever(wire: Wire) -> None:
    wire.connect()
    wire.check(A, nominate=True)
    for asked in range(1, MAX_ROLE_CONFLICTS + 2):
        await eventually(lambda asked=asked: len(wire.requests(A)) == asked)
        wire.answer(wire.requests(A)[-1], A, code=487)
    await eventually(lambda: wire.agent._connection._check_list[0].task is None)
    assert len(wire.requests(A)) == MAX_ROLE_CONFLICTS + 1


async def test_checks_from_thousands_of_ports_do_not_grow_memory(wire: Wire) -> None:
    await connected_on(wire, A)
    tasks = len(asyncio.all_tasks())
    for port in range(10000, 14000):
        wire.check(Path(A.remote_ip, port, A.local_ip))
        if port % 100 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks + MAX_PAIRS)
    connection = wire.agent._connection
    assert len(connection._check_list) <= MAX_PAIRS
    assert len(connection._remote_candidates) <= MAX_PAIRS
    assert sum(len(address.transactions) for address in wire.agent._addresses.values()) <= MAX_PAIRS + 1
    assert connection._queue.empty()
    wire.check(B, nominate=True)
    await wire.answer_check(B)
    await eventually(lambda: wire.selected == [A, B])


async def test_nominations_of_thousands_of_paths_do_not_grow_memory(wire: Wire) -> None:
    await connected_on(wire, A)
    connection = wire.agent._connection
    for port in range(10000, 10200):
        path = Path(A.remote_ip, port, A.local_ip)
        wire.check(path, nominate=True)
        await wire.answer_check(path)
        await eventually(lambda path=path: wire.selected[-1] == path)
    assert len(connection._check_list) <= MAX_PAIRS
    assert len(connection._remote_candidates) <= MAX_PAIRS
    assert connection._check_list_state.qsize() <= 1


async def test_checks_before_the_peer_is_known_are_bounded(wire: Wire) -> None:
    for port in range(10000, 12000):
        wire.check(Path(A.remote_ip, port, A.local_ip))
    assert len(wire.agent._connection._early_checks) <= 100
    wire.connect()
    await eventually(lambda: wire.agent._connection._early_checks_done)
    assert len(wire.agent._connection._check_list) <= MAX_PAIRS


async def test_no_more_than_so_many_local_addresses_are_served(wire: Wire) -> None:
    wire.connect()
    for place in range(MAX_LOCAL_ADDRESSES + 5):
        wire.check(Path(A.remote_ip, A.remote_port, f"198.51.100.{place + 1}"))
    assert len(wire.agent._addresses) == MAX_LOCAL_ADDRESSES == len(wire.bound)


async def test_numbers_of_a_wrong_length_are_dropped(wire: Wire) -> None:
    wire.connect()
    for kind in (0x0024, 0x8029, 0x802A, 0x8028, 0x0003, 0x0009, 0x0020):
        body = struct.pack("!HH", kind, 2) + b"\x00\x01\x00\x00"
        head = struct.pack("!HHI12s", 0x0001, len(body), stun.COOKIE, bytes(12))
        wire.receive(head + body, A)
    assert wire.sent == []


async def test_a_request_cut_at_any_length_is_dropped(wire: Wire) -> None:
    wire.connect()
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{wire.agent.ufrag}:{REMOTE_UFRAG}"
    request.attributes["PRIORITY"] = 1
    request.add_message_integrity(wire.agent.pwd.encode())
    whole = bytes(request)
    # The last 8 bytes are FINGERPRINT, which need not be there.
    for length in range(len(whole) - 8):
        cut = whole[:length]
        wire.receive(cut, A)
        if length >= 20:  # the same, with a header that says so
            wire.receive(stun.set_body_length(cut, length - 20), A)
    assert wire.bound == []


async def test_only_what_is_for_the_agent_is_taken_by_it(wire: Wire) -> None:
    def request(username: str) -> stun.Message:
        return stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes={"USERNAME": username})

    assert wire.agent.receive(request(f"{wire.agent.ufrag}:theirs"), A)
    for username in ("other:theirs", "", f"{wire.agent.ufrag}x:theirs", f"theirs:{wire.agent.ufrag}"):
        assert not wire.agent.receive(request(username), A)
    for kind in (stun.Class.RESPONSE, stun.Class.ERROR, stun.Class.INDICATION):
        for path in (A, C):
            assert not wire.agent.receive(stun.Message(stun.Method.BINDING, kind), path)


async def test_random_bytes_are_dropped(wire: Wire) -> None:
    wire.connect()
    rng = random.Random(8)
    for _ in range(2000):
        junk = bytearray(rng.randbytes(rng.randrange(80)))
        if len(junk) >= 20:
            junk[0:8] = struct.pack(
                "!HHI", rng.choice((0x001, 0x011, 0x101, 0x111)), len(junk) - 20, stun.COOKIE
            )
        wire.receive(bytes(junk), A)
    assert wire.bound == [] and wire.requests() == []


async def test_a_peer_that_stops_answering_is_lost_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.01)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 2)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.01)
    await connected_on(wire, A)
    await eventually(lambda: wire.losses)
    wire.check(A)
    await wire.agent.close()
    assert wire.losses == 1


async def test_a_peer_that_answers_consent_checks_is_kept(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.002)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 2)
    await connected_on(wire, A)
    for checks in range(2, 8):
        await eventually(lambda checks=checks: len(wire.requests(A)) >= checks)
        wire.answer(wire.requests(A)[-1], A)
    assert wire.losses == 0


async def test_closing_ends_a_connect_that_waits(wire: Wire) -> None:
    connecting = wire.connect()
    await asyncio.sleep(0)
    await wire.agent.close()
    with pytest.raises(ConnectionError):
        await connecting
    assert wire.losses == 0


async def test_closing_is_not_a_loss_and_can_be_repeated(wire: Wire) -> None:
    await connected_on(wire, A)
    await wire.agent.close()
    await wire.agent.close()
    wire.check(A, nominate=True)
    assert wire.losses == 0 and wire.agent._addresses == {}


async def test_closing_in_the_moment_of_the_nomination_leaves_no_task(wire: Wire) -> None:
    connecting = wire.connect()
    wire.check(A, nominate=True)
    await eventually(lambda: wire.requests(A))
    wire.answer(wire.requests(A)[0], A)
    await asyncio.create_task(wire.agent.close())
    assert wire.selected == [A]
    with pytest.raises(ConnectionError):
        await connecting
    consent = wire.agent._connection._query_consent_task
    assert consent is not None, "aioice looks by itself now"
    await asyncio.wait_for(consent, 5)


async def test_closing_while_checks_run_stops_them(wire: Wire) -> None:
    wire.connect()
    for port in range(5000, 5010):
        wire.check(Path(A.remote_ip, port, A.local_ip))
    await eventually(lambda: len(wire.requests()) >= 10)
    await wire.agent.close()


def test_the_bounds_are_not_below_what_a_laptop_with_five_interfaces_needs() -> None:
    assert ice.MAX_PAIRS >= 20
