"""What a socket may say when: join first and once, in time, and not too much."""

import json

import pytest

from kaamos.errors import ErrorCode
from kaamos.signaling.frames import ErrorData
from kaamos.signaling.limits import MAX_ADDRESSES, AddressLimit, TokenBucket, address_key
from kaamos.signaling.messages import Dialect, Join, Leave, Offer
from kaamos.signaling.session import HEAVY_BYTES, Close, Deliver, Event, Reply, Session

JOIN = json.dumps({"type": "join", "data": {"user_id": "ada"}, "id": "j"})
OFFER = json.dumps({"type": "offer", "data": {"sdp": "v=0"}, "id": "o"})
PING = json.dumps({"type": "ping"})


def new_session(rate: float = 0, timeout_s: float = 10) -> Session:
    return Session(join_timeout_s=timeout_s, messages_per_second=rate, now=100.0)


def joined_session(rate: float = 0) -> Session:
    session = new_session(rate)
    assert isinstance(session.receive(JOIN, 100.0)[0], Deliver)
    session.joined()
    return session


def code(events: list[Event]) -> ErrorCode:
    [event] = events
    assert isinstance(event, Reply)
    assert isinstance(event.frame.data, ErrorData)
    return ErrorCode(event.frame.data.code)


def test_a_join_comes_first() -> None:
    session = new_session()
    assert code(session.receive(OFFER, 100.0)) is ErrorCode.NOT_JOINED
    assert session.receive(JOIN, 100.0) == [Deliver(Join("ada"), "j")]


def test_a_second_join_is_refused_and_the_first_stands() -> None:
    session = joined_session()
    assert code(session.receive(JOIN, 100.0)) is ErrorCode.ALREADY_JOINED
    assert session.receive(OFFER, 100.0) == [Deliver(Offer("v=0"), "o")]


def test_a_join_that_the_room_refused_may_be_followed_by_another() -> None:
    session = new_session()
    session.receive(JOIN, 100.0)
    assert session.receive(JOIN, 100.0) == [Deliver(Join("ada"), "j")]


def test_an_error_answers_to_the_id_of_its_message() -> None:
    [event] = new_session().receive(OFFER, 100.0)
    assert isinstance(event, Reply)
    assert event.frame.id == "o"


def test_a_binary_frame_is_a_bad_message_before_and_after_the_join() -> None:
    assert code(new_session().receive_binary(100.0)) is ErrorCode.BAD_MESSAGE
    assert code(joined_session().receive_binary(100.0)) is ErrorCode.BAD_MESSAGE


def test_a_socket_without_a_join_in_time_is_closed() -> None:
    session = new_session()
    assert session.next_timeout() == 110.0
    assert session.handle_timeout(109.9) == []
    assert session.handle_timeout(110.0) == [Close(4008, "no join in time")]
    assert session.next_timeout() is None
    assert session.receive(JOIN, 110.0) == []


def test_wrong_messages_do_not_put_the_join_off() -> None:
    session = new_session()
    session.receive(b"nonsense", 109.0)
    assert session.next_timeout() == 110.0


def test_a_join_ends_the_wait_and_no_limit_has_none() -> None:
    assert joined_session().next_timeout() is None
    assert joined_session().handle_timeout(1e9) == []
    assert new_session(timeout_s=0).next_timeout() is None


def test_nothing_is_read_after_the_end() -> None:
    session = joined_session()
    session.end()
    assert session.receive(PING, 100.0) == []
    assert session.receive_binary(100.0) == []


def test_a_dialect_is_learned_from_messages_that_are_right() -> None:
    session = joined_session()
    session.receive('{"type": "offer", "sdp": 1}', 100.0)
    assert session.dialect == Dialect(0)
    session.receive('{"type": "offer", "sdp": "v=0"}', 100.0)
    session.receive('{"type": "ice_candidate", "data": {}}', 100.0)
    assert session.dialect == Dialect.TOP_LEVEL_SDP | Dialect.UNDERSCORES


def test_a_burst_passes_and_the_rate_is_kept_after_it() -> None:
    session = joined_session(rate=20)  # a burst of 60, of which the join was one
    for _ in range(59):
        assert isinstance(session.receive(PING, 100.0)[0], Deliver)
    assert code(session.receive(PING, 100.0)) is ErrorCode.RATE_LIMITED
    assert isinstance(session.receive(PING, 100.0625)[0], Deliver)
    assert code(session.receive_binary(100.0625)) is ErrorCode.RATE_LIMITED


def test_who_goes_on_over_the_rate_is_closed() -> None:
    session = joined_session(rate=20)
    events = [session.receive(PING, 100.0) for _ in range(59 + 60)]
    assert code(events[-1]) is ErrorCode.RATE_LIMITED
    assert session.receive(PING, 100.0) == [Close(4029, "too many messages")]
    assert session.receive(PING, 200.0) == []


def test_a_slow_but_steady_rate_is_never_refused() -> None:
    session = joined_session(rate=0.5)
    for second in range(102, 400, 2):
        assert session.receive('{"type": "leave"}', float(second)) == [Deliver(Leave(), None)]


def test_a_bucket_does_not_fill_while_time_stands_or_goes_back() -> None:
    bucket = TokenBucket(per_second=1, burst=1, now=100.0)
    assert bucket.take(100.0)
    assert not bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.wait_s(50.5) == 0.5


def test_addresses_are_limited_each_by_itself_and_told_when_to_come_again() -> None:
    limit = AddressLimit(per_minute=2)
    assert [limit.take("192.0.2.1", 0.0) for _ in range(3)] == [0.0, 0.0, 30.0]
    assert limit.take("192.0.2.2", 0.0) == 0.0
    assert limit.take("192.0.2.1", 30.0) == 0.0


def test_what_counts_only_afterwards_is_seen_by_the_next() -> None:
    limit = AddressLimit(per_minute=1)
    assert limit.wait_s("192.0.2.1", 0.0) == 0.0
    limit.count("192.0.2.1", 0.0)
    assert limit.wait_s("192.0.2.1", 0.0) == 60.0


def test_a_limit_of_zero_is_none() -> None:
    limit = AddressLimit(per_minute=0)
    limit.count("192.0.2.1", 0.0)
    assert limit.take("192.0.2.1", 0.0) == limit.wait_s("192.0.2.1", 0.0) == 0.0


def test_only_so_many_addresses_are_remembered() -> None:
    limit = AddressLimit(per_minute=1)
    for n in range(MAX_ADDRESSES + 1):
        limit.take(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0.0)
    assert limit.take("10.0.0.0", 0.0) == 0.0  # the first one was forgotten
    assert limit.take("10.0.0.2", 0.0) > 0.0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_an_ipv6_client_is_its_whole_network(address: str, key: str) -> None:
    assert address_key(address) == key


def test_a_heavy_message_passes_and_makes_those_after_it_wait_the_longer() -> None:
    session = joined_session(rate=20)
    heavy = b'{"type": "message", "data": {"payload": "' + b"x" * (HEAVY_BYTES * 30) + b'"}}'
    assert isinstance(session.receive(heavy, 200.0)[0], Deliver)  # 31 of 60
    assert isinstance(session.receive(heavy, 200.0)[0], Deliver)  # 29 are left, and it takes 31
    assert code(session.receive(PING, 200.0)) is ErrorCode.RATE_LIMITED
    assert code(session.receive(PING, 200.125)) is ErrorCode.RATE_LIMITED  # as many as 2.5 later
    assert isinstance(session.receive(PING, 200.1875)[0], Deliver)
