"""Which addresses g.http may reach: names by an allow list, and what a name resolves to by range.

Pure: names and numbers in, a verdict out. An address outside the public Internet is refused
unless its `host:port` is named in `[listeners.http] private`, whatever form it is written in
(IPv4 inside IPv6, 6to4, NAT64); a host written as a number in any but the dotted form is no host.
The ranges are those of the IANA registries for special addresses, written out here because
`ipaddress.is_global` differs between Python's versions (CVE-2024-4032).
https://www.iana.org/assignments/iana-ipv4-special-registry
https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from listener_runtime.errors import HostCallError, SandboxError

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_WEB_PORTS: Final = (80, 443)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

_INNER_4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network; Linux takes 0.0.0.0 for loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier NAT; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata and agent, on a public address
        "169.254.0.0/16",  # link local; most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
_INNER_6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarking, ORCHID and other protocol assignments
        "2001:db8::/32",
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")


def is_public(address: IpAddress) -> bool:
    """Whether an address lies on the public Internet, by the IPv4 address inside it if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _INNER_4)
    inner = _inner_ipv4(address)
    if inner is not None:
        return is_public(inner)
    return address in _PUBLIC_6 and not any(address in network for network in _INNER_6)


def is_reachable(address: IpAddress) -> bool:
    """Whether an address names one host at all, which even a private one must."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner_ipv4(address)
        return (
            is_reachable(inner)
            if inner is not None
            else not (address.is_multicast or address.is_unspecified)
        )
    return not (address.is_multicast or address.is_unspecified or address == _BROADCAST)


_BROADCAST: Final = ipaddress.IPv4Address("255.255.255.255")


def _inner_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _MAPPED or address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return None


def canonical_host(host: str) -> str:
    """A host name in lower case without its final dot, or an address in its shortest form.

    Raises ValueError with what is wrong, which for numbers in another than the dotted form says
    how they would be written.
    """
    text = host.lower()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if ":" in text:
        if "%" in text:
            raise ValueError(f"{host!r} has a zone, expected an address without one")
        return str(ipaddress.IPv6Address(text))
    text = text.removesuffix(".")
    labels = text.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError(
                f"{host!r} is a number, expected a name or four numbers such as 192.0.2.7"
            ) from None
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{host!r} is no host name; names beyond ASCII are written as xn--...")
    return text


@dataclass(frozen=True, slots=True)
class HostPattern:
    """One entry of a list: a host, or all names under one; one port, or the ports of the web."""

    host: str
    ports: tuple[int, ...]
    under: bool = False

    @classmethod
    def parse(cls, entry: str) -> HostPattern:
        """From `host:port`, `[ipv6]:port`, `*.domain:port`, or any of them without the port.

        Raises SandboxError for any other text.
        """
        text = entry.strip()
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):
            host, port = text, ""
        under = host.startswith("*.")
        try:
            ports = _WEB_PORTS if not port else (_port(port),)
            return cls(canonical_host(host.removeprefix("*.")), ports, under)
        except ValueError as error:
            raise SandboxError(
                f"found {entry!r} in [listeners.http], expected host:port such as "
                f'"api.example.com:443", "*.example.com:443" or "[2001:db8::1]:443" ({error})'
            ) from error

    def matches(self, host: str, port: int) -> bool:
        """Whether a canonical host and a port are meant."""
        if port not in self.ports:
            return False
        return host.endswith("." + self.host) if self.under else host == self.host


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Both lists: what may be called, and which of that may lie on inner addresses."""

    allow: tuple[HostPattern, ...] = ()
    private: tuple[HostPattern, ...] = ()

    @classmethod
    def parse(cls, allow: Sequence[str], private: Sequence[str]) -> AddressPolicy:
        """From the settings; raises SandboxError where an entry is none."""
        return cls(
            tuple(HostPattern.parse(entry) for entry in allow),
            tuple(HostPattern.parse(entry) for entry in private),
        )

    def check_name(self, host: str, port: int) -> None:
        """Raise HostCallError where a canonical host may not be called on this port."""
        if not any(pattern.matches(host, port) for pattern in self.allow):
            name = f"[{host}]" if ":" in host else host
            raise HostCallError(
                f"{name}:{port} may not be called; expected one of [listeners.http] allow in "
                f'rowcast.toml, to which "{name}:{port}" may be added'
            )

    def usable(self, host: str, port: int, addresses: Sequence[IpAddress]) -> list[IpAddress]:
        """Those of a name's addresses that may be connected to, in their order.

        Raises HostCallError where there is none.
        """
        private = any(pattern.matches(host, port) for pattern in self.private)
        found = [
            address
            for address in addresses
            if is_reachable(address) and (private or is_public(address))
        ]
        if not found:
            name = f"[{host}]" if ":" in host else host
            shown = ", ".join(str(address) for address in addresses[:3]) or "no address"
            raise HostCallError(
                f"{name}:{port} lies on {shown}, which is not public; if it is meant, "
                f'"{name}:{port}" belongs in [listeners.http] private in rowcast.toml as well'
            )
        return found


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise ValueError(f"the port {text!r} is not in 1..65535")
    return int(text)
