"""Extended reports: a receive-only browser learns the round trip from our answer (RFC 3611)."""

import struct

import pytest

from tests.support.manual_room import manual_room
from tests.support.packets import split_compound


def reference_time(sender: int, ntp: int) -> bytes:
    """Return an XR with one receiver reference time block (RFC 3611 section 4.4)."""
    return struct.pack("!BBHIBBHQ", 0x80, 207, 4, sender, 4, 0, 2, ntp)


def test_a_receiver_reference_time_is_answered_with_dlrr() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.send(ada, reference_time(9, 0x1122334455667788))
        (answer,) = ada.rtcp()
        ((count, kind, _), (_, xr, body)) = split_compound(answer)
        assert (count, kind, xr) == (0, 201, 207)
        assert struct.unpack("!IBBHIII", body) == (0xF0000000, 5, 0, 3, 9, 0x33445566, 0)


def test_many_reference_times_in_one_datagram_get_one_answer() -> None:
    with manual_room() as room:
        ada = room.peer()
        room.send(ada, b"".join(reference_time(9, i << 16) for i in range(1, 60)))
        (answer,) = ada.rtcp()
        assert split_compound(answer)[1][2][12:16] == (59).to_bytes(4, "big")


@pytest.mark.parametrize("cut", range(4, 20, 4))
def test_a_reference_time_that_is_cut_is_not_answered(cut: int) -> None:
    whole = reference_time(9, 1 << 40)
    with manual_room() as room:
        ada = room.peer()
        room.send(
            ada, struct.pack("!BBH", 0x80, 207, cut // 4 - 1) + whole[4:cut] + bytes(0 if cut >= 8 else 4)
        )
        assert ada.rtcp() == []
