"""What a test needs of the machine beside Python packages: a browser, another stack, the rights of root.

Where it is missing the test is skipped; ``KAAMOS_REQUIRE_BROWSERS=1`` makes that a failure, so that a machine
meant to run these tests cannot pass by not running them.
"""

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str, cure: str) -> NoReturn:
    """Skip the test that lacks this, or fail it where everything is required."""
    if os.environ.get("KAAMOS_REQUIRE_BROWSERS") == "1":
        pytest.fail(f"KAAMOS_REQUIRE_BROWSERS=1, but there is {what} ({cure})")
    pytest.skip(f"{what} ({cure})")


def program(names: tuple[str, ...], packages: str) -> str:
    """Return the path of the first of these programs that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    missing(f"no {names[0]} on PATH", f"Debian: apt-get install {packages}")


def address_family(ip: str, *, has_ipv6: bool) -> None:
    """Skip the test of an IPv6 address where the machine has no IPv6: a server runs there on IPv4 alone."""
    if ":" in ip and not has_ipv6:
        pytest.skip("this machine has no IPv6")
