"""Networks: which addresses of the internet protocol a name leads to, and which may be gone to.

An address that is written into another one (IPv4 in IPv6, by mapping, translation or a tunnel)
counts as what it leads to.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # NAT64, RFC 6052


def looked_up(host: str, port: int) -> list[Address]:
    """What a name leads to now; socket.gaierror when nobody knows it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, as does what is written into it."""
    if (inner := _inner(address)) is not None:
        return is_public(inner)
    inside = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not (inside or address.is_multicast or address.is_reserved)


def within(address: Address, networks: Sequence[str]) -> bool:
    """Whether an address, or the one that is written into it, lies in one of some networks."""
    meant = _inner(address) or address
    return any(meant in ipaddress.ip_network(network) for network in networks)


def _inner(address: Address) -> Address | None:
    """The IPv4 address that is written into one of IPv6."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    tunnel = address.teredo
    return address.ipv4_mapped or address.sixtofour or (tunnel[1] if tunnel else None)
