"""An aiortc client made of its ICE and DTLS objects, without RTCPeerConnection and SDP."""

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence

import aioice
import pytest
from aiortc.rtcdtlstransport import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    SRTPProtectionProfile,
)
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceGatherer, RTCIceParameters, RTCIceTransport

from kaamos.rtc.negotiation import LocalTransport, RemoteTransport


async def eventually(is_so: Callable[[], object]) -> None:
    """Return when the condition holds, and fail if it never does."""
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.002)


async def only_tasks(expected: set[asyncio.Task[object]]) -> None:
    """Return when no tasks but these are left, and fail if others stay.

    aioice 0.13 begins the consent checks of a connection that was closed within 20 ms of its
    nomination and never ends them; in clients that is not our affair.
    """

    def others() -> set[asyncio.Task[object]]:
        found = asyncio.all_tasks() - expected - {asyncio.current_task()}
        for task in found:
            frame = getattr(task.get_coro(), "cr_frame", None)
            owner = frame.f_locals.get("self") if frame else None
            if type(owner) is aioice.Connection and owner._closed:
                task.cancel()
        return found

    await eventually(lambda: not others())


def assert_no_complaints(caplog: pytest.LogCaptureFixture) -> None:
    """Check in the teardown of a test that nothing was logged as a warning or worse."""
    gc.collect()  # brings to light what tasks have raised
    records = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in records if record.levelno >= logging.WARNING] == []


class OrtcClient:
    """Connects to a :class:`LocalTransport`, ICE-controlling, in either DTLS role."""

    def __init__(
        self,
        *,
        dtls_role: str = "client",
        certificate: RTCCertificate | None = None,
        profiles: Sequence[SRTPProtectionProfile] | None = None,
    ) -> None:
        self.gatherer = RTCIceGatherer(iceServers=[])
        self.ice = RTCIceTransport(self.gatherer)
        self.ice._connection.ice_controlling = True
        self.dtls = RTCDtlsTransport(self.ice, [certificate or RTCCertificate.generateCertificate()])
        self.dtls._set_role(dtls_role)
        if profiles is not None:
            self.dtls._srtp_profiles = list(profiles)

    @property
    def remote(self) -> RemoteTransport:
        """What the server is told of this client."""
        ice = self.gatherer.getLocalParameters()
        fingerprints = self.dtls.getLocalParameters().fingerprints
        return RemoteTransport(
            ufrag=ice.usernameFragment,
            pwd=ice.password,
            fingerprints=tuple((f.algorithm, f.value) for f in fingerprints if f.algorithm == "sha-256"),
            is_dtls_client=self.dtls._role == "server",
        )

    async def connect(self, local: LocalTransport) -> None:
        await self.connect_ice(local)
        await self.connect_dtls(local)

    async def connect_ice(self, local: LocalTransport) -> None:
        await self.gatherer.gather()
        for place, (ip, port) in enumerate(local.addresses):
            await self.ice.addRemoteCandidate(
                RTCIceCandidate(
                    component=1,
                    foundation=str(place),
                    ip=ip,
                    port=port,
                    priority=2130706431 - place,
                    protocol="udp",
                    type="host",
                )
            )
        await self.ice.addRemoteCandidate(None)
        await self.ice.start(RTCIceParameters(usernameFragment=local.ufrag, password=local.pwd))

    async def connect_dtls(self, local: LocalTransport) -> None:
        algorithm, value = local.fingerprint.split(" ")
        await self.dtls.start(RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint(algorithm, value)]))

    async def close(self) -> None:
        pump = self.dtls._task
        await self.dtls.stop()
        if pump is not None:
            await asyncio.wait([pump])
        await self.ice.stop()

    def vanish(self) -> None:
        """Be gone without a word: nothing is sent and nothing answered any more."""
        connection = self.ice._connection
        if connection._query_consent_task is not None:
            connection._query_consent_task.cancel()
        for protocol in connection._protocols:
            protocol.transport.abort()
