"""What the native engine should do, written plainly: oracles for numbering and for receiver reports."""

from dataclasses import dataclass, field

TICKS = 1 << 32


@dataclass
class RewriterModel:
    """Outgoing numbers by definition: every number knows how many before it were left out.

    Where the native Rewriter remembers sixteen ranges, this remembers everything.
    """

    highest_out: int
    last_timestamp: int
    first_in: int = 0
    base_out: int = 0
    timestamp_offset: int = 0
    highest_in: int = 0
    left_out: list[int] = field(default_factory=list)
    last_us: int | None = None

    def start(self, in_seq: int, timestamp: int, clock_rate: int, now_us: int) -> None:
        self.begin(in_seq, self.highest_out + 1)
        elapsed = (
            0 if self.last_us is None else max(1, (now_us - self.last_us) * clock_rate // 1_000_000 % TICKS)
        )
        self.timestamp_offset = (self.last_timestamp + elapsed - timestamp) % TICKS

    def switch(self, in_seq: int, timestamp: int, elapsed: int) -> None:
        self.begin(in_seq, self.highest_out + 1)
        self.timestamp_offset = (self.last_timestamp + max(1, elapsed) - timestamp) % TICKS

    def rebase(self, in_seq: int) -> None:
        self.begin(in_seq, self.highest_out + 2)

    def begin(self, in_seq: int, out_seq: int) -> None:
        self.first_in, self.base_out, self.highest_in = in_seq, out_seq, in_seq - 1
        self.left_out = []

    def skip(self, in_seq: int) -> None:
        if in_seq > self.highest_in:
            self.highest_in = in_seq
            self.left_out.append(in_seq)

    def map(self, in_seq: int) -> int:
        """Return the outgoing number; 0 for what lies before the source's start."""
        if in_seq < self.first_in:
            return 0
        return self.base_out + in_seq - self.first_in - sum(1 for left in self.left_out if left < in_seq)

    def send(self, in_seq: int, timestamp: int, now_us: int) -> tuple[int, int] | None:
        out = self.map(in_seq)
        if out == 0:
            return None
        out_timestamp = (timestamp + self.timestamp_offset) % TICKS
        self.highest_in = max(self.highest_in, in_seq)
        if out > self.highest_out:
            self.highest_out, self.last_timestamp, self.last_us = out, out_timestamp, now_us
        if self.last_us is None:
            self.last_us = 0
        return out, out_timestamp


@dataclass
class ReceiverModel:
    """Loss and jitter of one SSRC by RFC 3550 appendices A.3 and A.8, from a list of what arrived."""

    clock_rate: int
    arrived: list[tuple[int, int, int]] = field(
        default_factory=list
    )  # (extended number, timestamp, time in us)
    reported: int = 0  # packets that earlier reports covered
    expected_prior: int = 0

    def receive(self, ext_seq: int, timestamp: int, now_us: int) -> None:
        self.arrived.append((ext_seq, timestamp, now_us))

    @property
    def highest(self) -> int:
        return max(ext_seq for ext_seq, _, _ in self.arrived)

    @property
    def expected(self) -> int:
        return self.highest - self.arrived[0][0] + 1

    @property
    def lost(self) -> int:
        return self.expected - len(self.arrived)

    @property
    def jitter(self) -> int:
        """Interarrival jitter in ticks, by the integer algorithm of appendix A.8."""
        jitter_q4 = 0
        previous: int | None = None
        for _, timestamp, now_us in self.arrived:
            transit = (now_us * self.clock_rate // 1_000_000 - timestamp) % TICKS
            if previous is not None:
                delta = (transit - previous) % TICKS
                jitter_q4 += min(delta, TICKS - delta) - (jitter_q4 + 8 >> 4)
            previous = transit
        return jitter_q4 >> 4

    def fraction(self) -> int:
        """Return the fraction lost since the last call, in 1/256, and start a new interval."""
        expected, received = self.expected - self.expected_prior, len(self.arrived) - self.reported
        self.expected_prior, self.reported = self.expected, len(self.arrived)
        if expected <= 0 or expected <= received:
            return 0
        return min(255, (expected - received) * 256 // expected)
