"""How often somebody may do something: a token bucket, and one for each client address."""

import ipaddress
from collections import OrderedDict

# Addresses remembered at once, per limit: the longest unused are forgotten first. An attacker with more
# addresses than this is not stopped by limits per address anyway.
MAX_ADDRESSES = 10_000


class TokenBucket:
    """Lets ``burst`` things pass at once and ``per_second`` in the long run; a rate of 0 lets all pass."""

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float, weight: float = 1.0) -> bool:
        """Return whether one more may pass now, and note that it does.

        A heavy one passes where a light one would, and those after it wait the longer.
        """
        if not self._per_second:
            return True
        self._fill(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= weight
        return True

    def wait_s(self, now: float) -> float:
        """Return in how many seconds the next one may pass; 0.0 if now."""
        if not self._per_second:
            return 0.0
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._per_second)

    def drain(self, now: float) -> None:
        """Note that one passed, whether or not it was allowed to."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1.0)

    def _fill(self, now: float) -> None:
        passed_s = max(0.0, now - self._filled_at)
        self._tokens = min(self._burst, self._tokens + passed_s * self._per_second)
        self._filled_at = now


class AddressLimit:
    """A number a minute for each client address (IPv6: for each /64, which one person has whole).

    A limit of 0 lets all pass.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, address: str, now: float) -> float:
        """Note one more of this address and return 0.0, or in how many seconds it may come again."""
        if not self._per_minute:
            return 0.0
        bucket = self._bucket(address, now)
        return 0.0 if bucket.take(now) else bucket.wait_s(now)

    def wait_s(self, address: str, now: float) -> float:
        """Return in how many seconds this address may come; 0.0 if now."""
        return self._bucket(address, now).wait_s(now) if self._per_minute else 0.0

    def count(self, address: str, now: float) -> None:
        """Note one more of this address that was let pass before it was known to count."""
        if self._per_minute:
            self._bucket(address, now).drain(now)

    def _bucket(self, address: str, now: float) -> TokenBucket:
        key = address_key(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._per_minute / 60, self._per_minute, now)
            if len(self._buckets) > MAX_ADDRESSES:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket


def address_key(address: str) -> str:
    """Return what stands for one client: the IPv4 address, or the /64 of an IPv6 address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.version == 6 and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip.ipv4_mapped or ip) if ip.version == 6 else str(ip)
