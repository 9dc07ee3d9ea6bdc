"""A network of its own for a test: Firefox sends nothing to 127.x, and the machine's addresses are not ours.

The thread that runs the test goes into a new network namespace and back. What it starts and opens meanwhile
is in there too: server, browsers, sockets. The kernel throws the namespace away with the last of them, also
when the test run was killed.
"""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator

from tests.support.required import missing, program

CLONE_NEWNET = 0x40000000

ADDRESS = "10.255.0.1"

# Firefox takes only an address that a default route leads to. Nothing is at the other end of this pair.
SETUP = (
    "link set lo up",
    "link add near type veth peer name far",
    f"addr add {ADDRESS}/24 dev near",
    "link set near up",
    "link set far up",
    "route add default via 10.255.0.2",
)

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def own_network() -> Iterator[str]:
    """Have the calling thread in a network with 127.0.0.1 and one more address, which is returned."""
    ip = program(("ip",), "iproute2")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            missing("no right to make a network namespace", os.strerror(ctypes.get_errno()))
        try:
            for command in SETUP:
                subprocess.run([ip, *command.split()], check=True)
            yield ADDRESS
        finally:
            if _libc.setns(before, CLONE_NEWNET) != 0:
                os._exit(70)  # every later test would run in the wrong network
    finally:
        os.close(before)
