"""PeerTransport: ICE, then DTLS, then SRTP keys in the engine, for one peer on the shared port."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kaamos.errors import LocalProtocolError
from kaamos.media.description import Path, SrtpKeys
from kaamos.media.engine import DatagramKind, Engine
from kaamos.rtc.channel import DataMessage
from kaamos.rtc.datachannels import DataChannels
from kaamos.rtc.dtls import Certificate, DtlsAssociation
from kaamos.rtc.ice import IceAgent
from kaamos.rtc.negotiation import LocalTransport, RemoteTransport


class PeerTransport:
    """One ICE and DTLS association.

    ``on_connected`` is called once, when media can flow.  ``on_closed`` is called once with the
    reason when the association ends by itself: ``"ice timeout"``, ``"ice failed"``,
    ``"dtls timeout"``, ``"dtls failed"``, ``"consent lost"``, ``"closed by peer"`` or
    ``"internal error"``.  The tracks of the transport still exist in the engine during that call
    and no longer afterwards.  It is not called after :meth:`close`.  ``on_data`` is awaited for each
    message on a data channel; meanwhile no further one is read.

    ``addresses`` are our IP addresses as they stand in candidates, best first.  The port is the
    engine's.  To be made inside the running loop.
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
        self._ice = IceAgent(
            engine.port,
            send=engine.send,
            bind=self._bind,
            select=self._select,
            on_lost=lambda: self.end("consent lost"),
        )
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
        try:
            async with asyncio.timeout(self._ice_timeout_s):
                await self._ice.connect(remote.ufrag, remote.pwd)
        except TimeoutError:
            return "ice timeout"
        except ConnectionError:
            return "ice failed"
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

    # Between the engine, ICE and DTLS.  The engine has forgotten the transport when it ends, while
    # tasks of ICE and DTLS may have one more step to do.

    def _receive(self, kind: DatagramKind, data: bytes, path: Path) -> None:
        if kind is DatagramKind.STUN:
            self._ice.receive(data, path)
        else:
            self._dtls.receive(data)

    def _bind(self, path: Path) -> bool:
        return self._ending is None and self._engine.bind_path(self.id, path)

    def _select(self, path: Path) -> bool:
        return self._ending is None and self._engine.select_path(self.id, path)

    def _set_keys(self, keys: SrtpKeys) -> None:
        if self._ending is None:
            self._engine.set_keys(self.id, keys)

    def _send_dtls(self, data: bytes) -> None:
        path = self._ice.selected_path
        assert path is not None, "DTLS starts after ICE"
        self._engine.send(path, data)
