"""What Python sees of the native engine; only ``kaamos.media.engine`` and tests import it."""

class Worker:
    def __init__(
        self,
        fd4: int,
        fd6: int,
        protect: int,
        unprotect: int,
        protect_rtcp: int,
        unprotect_rtcp: int,
        seed: int,
    ) -> None: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...
    @property
    def event_fd(self) -> int: ...
    def add_transport(self, ufrag: bytes, pwd: bytes, cname: bytes, rtcp_ssrc: int) -> int: ...
    def remove_transport(self, transport_id: int) -> None: ...
    def set_keys(self, transport_id: int, rx: int, tx: int, keep: object) -> None: ...
    def bind_path(
        self,
        transport_id: int,
        remote_ip: bytes,
        remote_port: int,
        local_ip: bytes,
        needs_source: bool,
        select: bool,
    ) -> None: ...
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
    ) -> int: ...
    def update_downtrack(
        self,
        downtrack_id: int,
        mid: bytes,
        cname: bytes,
        payload_types: list[tuple[int, int]],
        extensions: list[tuple[int, int]],
    ) -> None: ...
    def connect(self, downtrack_id: int, uptrack_id: int) -> None: ...
    def disconnect(self, downtrack_id: int) -> None: ...
    def take_events(
        self, strangers: bool, limit: int
    ) -> list[tuple[int, bool, bytes, bytes, int, bytes]]: ...
    def clear_event_fd(self) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def cpu_seconds(self) -> tuple[float, float]: ...
    def uptrack_stats(self, uptrack_id: int) -> tuple[int, int, int, int, int, int]: ...
    def downtrack_stats(
        self, downtrack_id: int
    ) -> tuple[int, int, int, int, int, int, int, int, dict[str, int]]: ...
