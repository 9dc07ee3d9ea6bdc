"""Opening messages of data channels, against their RFC and against any bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaamos.rtc.channel import MAX_LABEL_BYTES, ChannelKind

# As libwebrtc sends it: createDataChannel("chat", {ordered: false, maxRetransmits: 3, protocol: "p"}).
UNORDERED = bytes.fromhex("03810100 00000003 0004 0001") + b"chatp"

texts = st.text(max_size=60)
limits = st.integers(0, 2**32 - 1)


def test_the_fields_are_where_the_rfc_has_them() -> None:
    kind = ChannelKind("chat", "p", is_ordered=False, max_retransmits=3)
    assert ChannelKind.read(UNORDERED) == kind and not kind.is_reliable
    assert kind.write() == UNORDERED.replace(b"\x81\x01\x00", b"\x81\x00\x00")  # our priority is none


@given(texts, texts, st.booleans(), st.sampled_from(["", "max_retransmits", "max_lifetime_ms"]), limits)
def test_what_is_written_reads_the_same(
    label: str, protocol: str, is_ordered: bool, limited: str, limit: int
) -> None:
    kind = ChannelKind(label, protocol, is_ordered=is_ordered, **({limited: limit} if limited else {}))
    assert ChannelKind.read(kind.write()) == kind
    assert kind.is_reliable == (not limited)


@pytest.mark.parametrize("length", range(len(UNORDERED)))
def test_a_cut_message_opens_nothing(length: int) -> None:
    assert ChannelKind.read(UNORDERED[:length]) is None


@pytest.mark.parametrize(
    "data",
    [
        UNORDERED + b"x",
        b"\x02" + UNORDERED[1:],
        UNORDERED[:1] + b"\x03" + UNORDERED[2:],
        UNORDERED[:1] + b"\x40" + UNORDERED[2:],
        UNORDERED[:-2] + b"\xff\xff",
        ChannelKind("x" * (MAX_LABEL_BYTES + 1)).write(),
        ChannelKind("", "x" * (MAX_LABEL_BYTES + 1)).write(),
    ],
)
def test_what_we_do_not_take_opens_nothing(data: bytes) -> None:
    assert ChannelKind.read(data) is None


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_not(data: bytes) -> None:
    kind = ChannelKind.read(data)
    assert kind is None or len(kind.write()) == len(data)
