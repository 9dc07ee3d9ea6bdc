"""What Python sees of the native engine; only ``kaamos.media.engine`` and tests import it."""

from typing import Self, TypedDict

from typing_extensions import disjoint_base

@disjoint_base
class Worker:
    def __new__(
        cls,
        fd4: int,
        fd6: int = -1,
        protect: int = 0,
        unprotect: int = 0,
        protect_rtcp: int = 0,
        unprotect_rtcp: int = 0,
        seed: int = 1,
    ) -> Self: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def event_fd(self) -> int: ...
    def add_transport(self, ufrag: bytes, pwd: bytes, cname: bytes, rtcp_ssrc: int) -> int: ...
    def remove_transport(self, transport_id: int) -> list[int]: ...
    def set_keys(self, transport_id: int, rx: int, tx: int, keep: object) -> None: ...
    def bind_path(
        self,
        transport_id: int,
        remote_ip: bytes,
        remote_port: int,
        local_ip: bytes,
        needs_source: bool,
        select: bool,
    ) -> bool: ...
    def last_received_us(self, transport_id: int) -> int: ...
    def add_uptrack(
        self,
        transport_id: int,
        mid: bytes,
        is_video: bool,
        payload_types: list[tuple[int, int, int, int]],
        extensions: list[tuple[int, int]],
        ssrcs: list[int],
        has_pli: bool,
        has_fir: bool,
        has_nack: bool = ...,
        has_transport_cc: bool = ...,
        rtx_payload_types: list[tuple[int, int]] = ...,
        rtx_ssrcs: list[tuple[int, int]] = ...,
        rids: list[bytes] = ...,
    ) -> int: ...
    def update_uptrack(
        self,
        uptrack_id: int,
        mid: bytes,
        is_video: bool,
        payload_types: list[tuple[int, int, int, int]],
        extensions: list[tuple[int, int]],
        ssrcs: list[int],
        has_pli: bool,
        has_fir: bool,
        has_nack: bool = ...,
        has_transport_cc: bool = ...,
        rtx_payload_types: list[tuple[int, int]] = ...,
        rtx_ssrcs: list[tuple[int, int]] = ...,
        rids: list[bytes] = ...,
    ) -> None: ...
    def remove_uptrack(self, uptrack_id: int) -> None: ...
    def add_downtrack(
        self,
        transport_id: int,
        mid: bytes,
        cname: bytes,
        is_video: bool,
        ssrc: int,
        first_seq: int,
        first_timestamp: int,
        payload_types: list[tuple[int, int]],
        extensions: list[tuple[int, int]],
        has_nack: bool,
        rtx_ssrc: int = ...,
        first_rtx_seq: int = ...,
        rtx_payload_types: list[tuple[int, int]] = ...,
        allows_two_byte: bool = ...,
    ) -> int: ...
    def update_downtrack(
        self,
        downtrack_id: int,
        mid: bytes,
        cname: bytes,
        payload_types: list[tuple[int, int]],
        extensions: list[tuple[int, int]],
        has_nack: bool = ...,
        rtx_ssrc: int = ...,
        rtx_payload_types: list[tuple[int, int]] = ...,
        allows_two_byte: bool = ...,
    ) -> None: ...
    def connect(self, downtrack_id: int, uptrack_id: int) -> None: ...
    def disconnect(self, downtrack_id: int) -> None: ...
    def take_events(self, strangers: bool, limit: int) -> list[tuple[int, int, bytes, bytes, int, bytes]]: ...
    def clear_event_fd(self) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def audio_levels(self) -> dict[int, int]: ...
    def cpu_seconds(self) -> tuple[float, float]: ...
    def uptrack_stats(self, uptrack_id: int) -> tuple[int, int, int, int, int, int]: ...
    def downtrack_stats(
        self, downtrack_id: int
    ) -> tuple[int, int, int, int, int, int, int, int, dict[str, int]]: ...

# Probes (fastpath/probe.pxi): single chapters as functions, for tests and benchmarks.

COUNTER_NAMES: tuple[str, ...]
DROP_NAMES: tuple[str, ...]

class _ParsedPacket(TypedDict):
    payload_offset: int
    payload_length: int
    ssrc: int
    timestamp: int
    seq: int
    payload_type: int
    marker: bool
    csrc_count: int
    extensions: dict[int, bytes]

def classify(data: bytes) -> int: ...
def extend_sequence(newest: int, seq: int) -> int: ...
def parse_packet(data: bytes, extensions: list[tuple[int, int]], repeat: int = 1) -> _ParsedPacket | None: ...
def rewrite_packet(
    data: bytes,
    extensions_up: list[tuple[int, int]],
    extensions_down: list[tuple[int, int]],
    mid: bytes,
    with_mid: bool,
    ssrc: int,
    out_seq: int,
    timestamp: int,
    payload_type: int,
    repeat: int = 1,
    allows_two_byte: bool = False,
    now_us: int = 0,
) -> bytes | None: ...
def is_keyframe(payload_format: int, payload: bytes) -> bool: ...
def hmac_sha1_of(key: bytes, head: bytes, data: bytes) -> bytes: ...
def crc32_of(data: bytes) -> int: ...
def parse_stun(data: bytes) -> tuple[bytes | None, int, bool, bool] | None: ...
def stun_integrity_ok(data: bytes, integrity_at: int, pwd: bytes) -> bool: ...
def stun_success(request: bytes, remote_ip: bytes, remote_port: int, pwd: bytes) -> bytes: ...
def is_rtcp_compound(data: bytes) -> bool: ...

@disjoint_base
class RewriterProbe:
    def __new__(cls, first_seq: int, first_timestamp: int) -> Self: ...
    def start(self, in_seq: int, timestamp: int, clock_rate: int, now_us: int) -> None: ...
    def switch(self, ssrc: int, in_seq: int, timestamp: int, elapsed: int) -> None: ...
    def rebase(self, in_seq: int) -> None: ...
    def skip(self, in_seq: int) -> None: ...
    def map(self, in_seq: int) -> int: ...
    def unmap(self, out_seq: int) -> tuple[int, int] | None: ...
    def send(self, in_seq: int, timestamp: int, now_us: int) -> tuple[int, int] | None: ...

class ManualWorker(Worker):
    def __new__(cls, fd4: int) -> Self: ...
    def apply(self, now_us: int, now_ntp: int) -> None: ...
    def receive(self, transport_id: int, data: bytes, now_us: int, now_ntp: int) -> str | None: ...
    def datagram(
        self, data: bytes, remote_ip: bytes, remote_port: int, local_ip: bytes, now_us: int, now_ntp: int
    ) -> str | None: ...
    def tick(self, now_us: int, now_ntp: int) -> None: ...

@disjoint_base
class PacketRun:
    def __new__(cls, packet: bytes, first_seq: int, count: int) -> Self: ...
    def apply(self, function: int, session: int) -> int: ...
    def packets(self) -> list[bytes]: ...
