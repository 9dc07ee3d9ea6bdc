"""ICE for one peer over the engine's shared UDP port (RFC 8445, RFC 7675); the only importer of aioice.

aioice runs the protocol.  It expects one socket for each local address and connection; here it gets
virtual ones, made when a check comes to an address, and the engine's port carries the datagrams.
Remote candidates are never given to aioice: a peer is learned as peer-reflexive by its first
authenticated check, so no address from the network is spoken to before it has spoken to us.
"""

import asyncio
import secrets
import string
import struct
from collections.abc import Callable

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol

from kaamos.media.description import Path

# RFC 8445 section 5.3 asks for 24 bits in the ufrag and 128 in the password: 47 and 142 here.
# A ufrag names one of all transports on the port, so it is longer than the four characters of aioice.
UFRAG_CHARS = 8
PWD_CHARS = 24

# Pairs kept for one peer.  A laptop with five interfaces against four of our addresses makes 20;
# what is forgotten is learned again by its next check.
MAX_PAIRS = 32

# Local addresses that one peer may reach us by.
MAX_LOCAL_ADDRESSES = 16

# Answers 487 (Role Conflict) in one connection that are followed by another try: one for each pair
# is normal, without a limit a peer could keep us asking (and aioice recursing) for ever.
MAX_ROLE_CONFLICTS = 64

_COMPONENT = 1  # RTP and RTCP are always multiplexed
_ALPHABET = string.ascii_letters + string.digits


def parse_stun(data: bytes) -> stun.Message | None:
    """Return the STUN message that a datagram is, or None where it is malformed."""
    try:
        return stun.parse_message(data)
    except (ValueError, struct.error):  # aioice unpacks numbers without looking at their length
        return None


class IceAgent:
    """A full ICE agent in the controlled role, for one peer and one generation of credentials.

    ``ufrag`` and ``pwd`` are our credentials, random ones if not given.

    ``bind`` is called with each path on which a check of the peer is about to be answered with
    success; where it returns False, because another living peer has the path, nothing is answered.
    ``select`` is called with the path that the peer nominated, again whenever it nominates another one,
    ``on_lost`` when the peer has stopped answering consent checks; then the agent is closed.
    """

    def __init__(
        self,
        port: int,
        ufrag: str | None = None,
        pwd: str | None = None,
        *,
        send: Callable[[Path, bytes], None],
        bind: Callable[[Path], bool],
        select: Callable[[Path], bool],
        on_lost: Callable[[], None],
    ) -> None:
        self.ufrag = ufrag or _random_text(UFRAG_CHARS)
        self.pwd = pwd or _random_text(PWD_CHARS)
        self.selected_path: Path | None = None
        self._port = port
        self._send = send
        self._bind = bind
        self._select = select
        self._connection = _Connection(self.ufrag, self.pwd, on_selected=self._take_selected, on_lost=on_lost)
        self._addresses: dict[str, _LocalAddress] = {}
        self._first_check = asyncio.Event()  # or the end

    def receive(self, message: stun.Message, path: Path) -> bool:
        """Take a message and return True if it is for this agent, not for that of another ICE restart."""
        address = self._addresses.get(path.local_ip)
        remote = (path.remote_ip, path.remote_port)
        if message.message_class is not stun.Class.REQUEST:
            return address is not None and address.response_received(message, remote)
        if message.attributes.get("USERNAME", "").partition(":")[0] != self.ufrag:
            return False
        if address is None:
            if self._connection.is_closing or len(self._addresses) == MAX_LOCAL_ADDRESSES:
                return True
            address = _LocalAddress(self._connection, path.local_ip, self._port, self._send, self._may_answer)
            self._addresses[path.local_ip] = address
            self._connection.add_address(address)
        address.request_received(message, remote)
        return True

    def follow(self, path: Path) -> None:
        """Select a path by which the peer's media comes, though it was not nominated, if our check went well.

        RFC 8445 would let a peer behind a NAT that gave it another port wait for its next nomination;
        aioice and others never nominate twice.
        """
        self._connection.follow(path)

    async def connect(self, remote_ufrag: str, remote_pwd: str) -> None:
        """Return once the peer has nominated a pair and the check in our direction worked.

        There is no time limit: a peer that sends nothing is waited for.  To be called once.

        Raises:
            ConnectionError: the agent was closed meanwhile.
        """
        self._connection.remote_username = remote_ufrag
        self._connection.remote_password = remote_pwd
        # aioice fails at once when it has nothing to check; what comes before it begins, it keeps.
        await self._first_check.wait()
        if not self._connection.is_closing:
            await self._connection.connect()
        if self._connection.is_closing:
            raise ConnectionError("closed")

    async def close(self) -> None:
        """Stop all checks.  ``on_lost`` is not called any more.  May be called more than once."""
        self._connection.forget_loss()
        self._first_check.set()
        await self._connection.close()
        self._addresses.clear()

    def _may_answer(self, path: Path) -> bool:
        # Checks on the selected path are answered natively: one that comes here means that the engine
        # has given the path to another peer meanwhile (a NAT can hand an address on), and it came back.
        is_ours = self._select(path) if path == self.selected_path else self._bind(path)
        if is_ours:
            self._first_check.set()
        return is_ours

    def _take_selected(self, path: Path) -> None:
        if path != self.selected_path:
            self.selected_path = path
            self._select(path)


class _VirtualTransport(asyncio.DatagramTransport):
    """What a ``StunProtocol`` takes for its socket: one local address of the shared port."""

    def __init__(self, local_ip: str, send: Callable[[Path, bytes], None]) -> None:
        super().__init__()
        self._local_ip = local_ip
        self._send = send

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:  # type: ignore[override]
        self._send(Path(addr[0], addr[1], self._local_ip), data)


class _LocalAddress(StunProtocol):
    """The STUN messages of one peer to and from one of our addresses.

    Because every address has its own, an answer leaves from the address that was asked and a
    pair of aioice is the same thing as a :class:`Path`.  ``may_answer`` is asked with the path just
    before each success response.
    """

    def __init__(
        self,
        connection: "_Connection",
        local_ip: str,
        port: int,
        send: Callable[[Path, bytes], None],
        may_answer: Callable[[Path], bool],
    ) -> None:
        super().__init__(connection)
        self.local_candidate = Candidate(
            foundation=candidate_foundation("host", "udp", local_ip),
            component=_COMPONENT,
            transport="udp",
            priority=candidate_priority(_COMPONENT, "host"),
            host=local_ip,
            port=port,
            type="host",
        )
        self._may_answer = may_answer
        self.connection_made(_VirtualTransport(local_ip, send))

    def request_received(self, message: stun.Message, addr: tuple[str, int]) -> None:
        # FFmpeg leaves PRIORITY out, which RFC 8445 section 7.1.1 forbids and aioice does not survive.
        message.attributes.setdefault("PRIORITY", candidate_priority(_COMPONENT, "prflx"))
        self.receiver.request_received(message, addr, self)

    def response_received(self, message: stun.Message, addr: tuple[str, int]) -> bool:
        """Return whether we have asked for it; an indication never is."""
        transaction = self.transactions.get(message.transaction_id)
        if transaction is None or message.message_class is stun.Class.INDICATION:
            return False
        transaction.response_received(message, addr)
        return True

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        # aioice answers a request with success only after its MESSAGE-INTEGRITY was found right.
        if message.message_class is stun.Class.RESPONSE and not self._may_answer(
            Path(addr[0], addr[1], self.local_candidate.host)
        ):
            return
        super().send_stun(message, addr)

    async def close(self) -> None:
        self.connection_lost(None)  # there is no socket that would say so


class _Connection(Connection):
    """aioice's connection, with bounded memory and word of what was selected and lost."""

    def __init__(
        self, ufrag: str, pwd: str, *, on_selected: Callable[[Path], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__(ice_controlling=False, local_username=ufrag, local_password=pwd)
        self._local_candidates_end = True  # there is nothing to gather
        self._on_selected = on_selected
        self._on_lost: Callable[[], None] | None = on_lost
        self._role_conflicts = 0

    @property
    def is_closing(self) -> bool:
        return self._closing

    def add_address(self, address: _LocalAddress) -> None:
        self._protocols.append(address)

    def forget_loss(self) -> None:
        self._on_lost = None

    def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        pair = next((p for p in self._check_list if p.protocol is protocol and p.remote_addr == addr), None)
        if pair is None:
            self._make_room()
        elif pair.task is not None and (pair.task.cancelling() or pair.task.done()):
            # connect() cancels the checks that still run when the first pair is nominated and leaves
            # their pairs in progress for ever, so that the peer could never move to one of them.
            pair.task = None
            self.check_state(pair, CandidatePair.State.WAITING)
        super().check_incoming(message, addr, protocol)

    def follow(self, path: Path) -> None:
        """Take the pair of a path as nominated if it was found valid, once there was a nomination."""
        pair = next((pair for pair in self._check_list if _path(pair) == path), None)
        if self._nominated and pair is not None and pair.state is CandidatePair.State.SUCCEEDED:
            pair.nominated = True
            self.check_complete(pair)

    def check_complete(self, pair: CandidatePair) -> None:
        super().check_complete(pair)
        if self._nominated.get(_COMPONENT) is pair:
            self._on_selected(_path(pair))

    async def check_start(self, pair: CandidatePair) -> None:
        if pair.state is CandidatePair.State.IN_PROGRESS:  # aioice asks again after a role conflict
            self._role_conflicts += 1
            if self._role_conflicts > MAX_ROLE_CONFLICTS:
                self.check_state(pair, CandidatePair.State.FAILED)
                self.check_complete(pair)
                return
        await super().check_start(pair)

    def _check_periodic(self) -> bool:
        # Pairs come from checks of the peer, and those start ours at once, so there is nothing to pace;
        # without this, every connection that waits for its peer would wake up 50 times a second.
        return False

    async def query_consent(self) -> None:
        # connect() begins this some time after the nomination, even if close() came in between.
        if not self._closing:
            await super().query_consent()

    async def close(self) -> None:
        await super().close()
        if self._on_lost is not None:  # not asked for by us: the consent checks ended it
            on_lost, self._on_lost = self._on_lost, None
            on_lost()

    def _make_room(self) -> None:
        """Forget a pair if there are too many, and every remote candidate that is in no pair."""
        if len(self._check_list) >= MAX_PAIRS:
            selected = self._nominated.get(_COMPONENT)
            others = [pair for pair in self._check_list if pair is not selected]
            victim = next((pair for pair in others if pair.task is None), others[0])
            if victim.task is not None:
                victim.task.cancel()
            self._check_list.remove(victim)
        if len(self._remote_candidates) >= MAX_PAIRS:
            self._remote_candidates = list(dict.fromkeys(pair.remote_candidate for pair in self._check_list))


def _path(pair: CandidatePair) -> Path:
    return Path(*pair.remote_addr, pair.local_candidate.host)


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
