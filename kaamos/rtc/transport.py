"""PeerTransport: ICE, then DTLS, then SRTP keys in the engine, for one peer on the shared port.

An ICE restart (RFC 8445 section 9) touches nothing but ICE: the agent in use keeps the path and the
consent, and a new one with credentials of its own waits beside it. When the peer has nominated a
path there, media and DTLS move over and the old agent is closed: make before break.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace

from kaamos.errors import LocalProtocolError
from kaamos.media.description import Path, SrtpKeys
from kaamos.media.engine import DatagramKind, Engine
from kaamos.rtc.channel import DataMessage
from kaamos.rtc.datachannels import DataChannels
from kaamos.rtc.dtls import Certificate, DtlsAssociation
from kaamos.rtc.ice import IceAgent, parse_stun
from kaamos.rtc.negotiation import LocalTransport, RemoteTransport


class PeerTransport:
    """One ICE and DTLS association.

    ``on_connected`` is called once, when media can flow.  ``on_closed`` is called once with the
    reason when the association ends by itself: ``"ice timeout"``, ``"dtls timeout"``,
    ``"dtls failed"``, ``"consent lost"``, ``"closed by peer"`` or ``"internal error"``.  The tracks of
    the transport still exist in the engine during that call and no longer afterwards.  It is not
    called after :meth:`close`.  ``on_data`` is awaited for each message on a data channel; meanwhile no
    further one is read.

    ``addresses`` are our IP addresses as they stand in candidates, best first.  The port is the
    engine's.  To be made inside the running loop.

    Attributes:
        local: what our descriptions say of the transport; another one after each ICE restart.
    """

    def __init__(
        self,
        engine: Engine,
        certificate: Certificate,
        addresses: Sequence[str],
        *,
        on_connected: Callable[[], None],
        on_closed: Callable[[str], None],
        on_data: Callable[[DataMessage], Awaitable[None]],
        ice_timeout_s: float = 30.0,
        dtls_timeout_s: float = 10.0,
    ) -> None:
        self._engine = engine
        self._on_connected = on_connected
        self._on_closed: Callable[[str], None] | None = on_closed
        self._ice_timeout_s = ice_timeout_s
        self._dtls_timeout_s = dtls_timeout_s
        self._ice = self._new_agent()  # the one in use
        self._restart: IceAgent | None = None  # the one that is to follow it
        self._restart_until = 0.0  # on the loop's clock: so long it may be the last hope
        self._last_hope: asyncio.TimerHandle | None = None
        self._path: Path | None = None  # that DTLS and media take; None: the peer's consent is lacking
        self._has_path = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dtls = DtlsAssociation(
            certificate,
            send=self._send_dtls,
            on_keys=self._set_keys,
            on_closed=lambda: self.end("closed by peer"),
        )
        self.data = DataChannels(self._dtls, on_data)
        self._connecting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self.id = engine.add_transport(self._ice.ufrag, self._ice.pwd, self._receive)
        self.local = LocalTransport(
            ufrag=self._ice.ufrag,
            pwd=self._ice.pwd,
            fingerprint=certificate.fingerprint,
            addresses=tuple((address, engine.port) for address in addresses),
        )

    def start(self, remote: RemoteTransport) -> None:
        """Begin to connect with the peer that sent this description.

        Raises:
            LocalProtocolError: it was started before, or is closed.
        """
        if self._connecting is not None or self._ending is not None:
            raise LocalProtocolError("a transport starts once")
        self._connecting = asyncio.create_task(self._connect(remote))

    def restart_ice(self, remote: RemoteTransport) -> None:
        """Begin an ICE restart with the peer's new credentials; ``local`` has ours at once.

        One that is under way is forgotten for it: only the latest description counts.

        Raises:
            LocalProtocolError: the transport was not started.
        """
        if self._connecting is None:
            raise LocalProtocolError("only a transport that was started can restart ICE")
        if self._ending is not None:
            return
        if self._restart is not None:
            self._dismiss(self._restart)
        agent = self._new_agent()
        self._engine.add_credentials(self.id, agent.ufrag, agent.pwd)
        self.local = replace(self.local, ufrag=agent.ufrag, pwd=agent.pwd)
        self._begin_restart(agent, remote)

    def resume_restart(self, remote: RemoteTransport) -> None:
        """Go on with a restart, by the same ``local``, with a peer that has other credentials by now.

        It did not hear our answer, so it cannot have connected by our new credentials before; where it has,
        the connection ends soon.
        """
        if self._ending is not None:
            return
        if self._restart is None:
            asyncio.get_running_loop().call_soon(self.end, "ice restart failed")
            return
        self._spawn(self._restart.close())
        self._begin_restart(self._new_agent(self._restart.ufrag, self._restart.pwd), remote)

    async def close(self) -> None:
        """Say goodbye to the peer and release everything.  May be called at any time, and again."""
        self._on_closed = None
        self.end(None)
        assert self._ending is not None
        await asyncio.shield(self._ending)

    async def _connect(self, remote: RemoteTransport) -> None:
        failure: str | None = "internal error"
        try:
            failure = await self._handshake(remote)
            if failure is None and self._ending is None:
                self.data.start()
                self._on_connected()
        except asyncio.CancelledError:
            failure = None
            raise
        finally:
            if failure is not None:
                self.end(failure)

    async def _handshake(self, remote: RemoteTransport) -> str | None:
        """Run ICE and DTLS; return why they failed, or None."""
        self._spawn(self._check(self._ice, remote))
        try:
            async with asyncio.timeout(self._ice_timeout_s):
                await self._has_path.wait()
        except TimeoutError:
            return "ice timeout"
        try:
            await self._dtls.connect(
                remote.fingerprints, is_client=remote.is_dtls_client, timeout_s=self._dtls_timeout_s
            )
        except TimeoutError:
            return "dtls timeout"
        except ConnectionError:
            return "dtls failed"
        return None

    def end(self, reason: str | None) -> None:
        """End as if by itself, for this reason; None: without telling anybody."""
        if self._ending is not None:
            return
        self._ending = asyncio.create_task(self._release())
        self._forget_last_hope()
        try:
            if reason is not None and self._on_closed is not None:
                self._on_closed(reason)
        finally:
            self._engine.remove_transport(self.id)

    async def _release(self) -> None:
        if self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            self._dtls.abort()
            await asyncio.wait([self._connecting])
        self.data.close()
        await self._dtls.close()
        await self._ice.close()
        if self._restart is not None:
            await self._restart.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # The agents

    def _new_agent(self, *credentials: str) -> IceAgent:
        agent = IceAgent(
            self._engine.port,
            *credentials,
            send=self._engine.send,
            bind=self._bind,
            select=lambda path: self._select(agent, path),
            on_lost=lambda: self._lose(agent),
        )
        return agent

    @staticmethod
    async def _check(agent: IceAgent, remote: RemoteTransport) -> None:
        with suppress(ConnectionError):  # it was closed
            await agent.connect(remote.ufrag, remote.pwd)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _dismiss(self, agent: IceAgent) -> None:
        """Let nobody in by an agent's credentials any more, and close it; its paths stay bound."""
        self._engine.remove_credentials(self.id, agent.ufrag)
        self._spawn(agent.close())

    def _select(self, agent: IceAgent, path: Path) -> bool:
        if self._ending is not None or agent not in (self._ice, self._restart):
            return False
        if not self._engine.select_path(self.id, path):
            return False
        self._path = path
        self._has_path.set()
        if agent is self._restart:
            old, self._ice, self._restart = self._ice, agent, None
            self._forget_last_hope()
            self._dismiss(old)
        return True

    def _begin_restart(self, agent: IceAgent, remote: RemoteTransport) -> None:
        self._restart = agent
        self._restart_until = asyncio.get_running_loop().time() + self._ice_timeout_s
        if self._last_hope is not None:
            self._await_restart()
        self._spawn(self._check(agent, remote))

    def _lose(self, agent: IceAgent) -> None:
        """Send nothing more: consent is over (RFC 7675).  Without a restart to hope for, end."""
        if agent is not self._ice or self._ending is not None:
            return
        if self._restart is None:
            self.end("consent lost")
            return
        self._path = None
        self._engine.deselect_path(self.id)
        self._await_restart()

    def _await_restart(self) -> None:
        self._forget_last_hope()
        self._last_hope = asyncio.get_running_loop().call_at(self._restart_until, self.end, "consent lost")

    def _forget_last_hope(self) -> None:
        if self._last_hope is not None:
            self._last_hope.cancel()
            self._last_hope = None

    # Between the engine, ICE and DTLS.  The engine has forgotten the transport when it ends, while
    # tasks of ICE and DTLS may have one more step to do.

    def _receive(self, kind: DatagramKind, data: bytes, path: Path) -> None:
        if kind is DatagramKind.DTLS:
            self._dtls.receive(data)
        elif kind is DatagramKind.MOVED:
            self._ice.follow(path)
        elif (message := parse_stun(data)) is not None and not self._ice.receive(message, path):
            if self._restart is not None:
                self._restart.receive(message, path)

    def _bind(self, path: Path) -> bool:
        return self._ending is None and self._engine.bind_path(self.id, path)

    def _set_keys(self, keys: SrtpKeys) -> None:
        if self._ending is None:
            self._engine.set_keys(self.id, keys)

    def _send_dtls(self, data: bytes) -> None:
        if self._path is not None:
            self._engine.send(self._path, data)
