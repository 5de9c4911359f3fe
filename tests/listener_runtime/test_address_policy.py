from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener_runtime.address_policy import (
    AddressPolicy,
    HostPattern,
    canonical_host,
    is_public,
    is_reachable,
)
from listener_runtime.errors import HostCallError, SandboxError

IPV4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
INNER_IPV4 = st.sampled_from(
    ["10.1.2.3", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.168.1.1", "100.100.100.200"]
).map(ipaddress.IPv4Address)
IPV6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0x2000 << 112, (0x4000 << 112) - 1),
    st.tuples(
        st.sampled_from(
            ["::", "fe80::", "fc00::", "ff00::", "2001::", "2001:db8::", "64:ff9b::", "2002::"]
        ).map(lambda text: int(ipaddress.IPv6Address(text))),
        st.integers(0, 2**64 - 1),
    ).map(sum),
).map(ipaddress.IPv6Address)


def embedded(address: ipaddress.IPv4Address) -> list[ipaddress.IPv6Address]:
    """An IPv4 address in the forms in which IPv6 carries it."""
    return [
        ipaddress.IPv6Address(f"::ffff:{address}"),
        ipaddress.IPv6Address(f"64:ff9b::{address}"),
        ipaddress.IPv6Address((0x2002 << 112) | (int(address) << 80) | 1),
    ]


@given(IPV4)
def test_an_ipv4_address_is_public_only_where_the_library_agrees(
    address: ipaddress.IPv4Address,
) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert is_reachable(address)


@given(IPV4)
def test_an_ipv4_address_that_is_refused_is_special_to_the_library_or_named_here(
    address: ipaddress.IPv4Address,
) -> None:
    own = ["168.63.129.16/32", "192.88.99.0/24", "192.31.196.0/24", "192.52.193.0/24"]
    own += ["192.175.48.0/24", "192.0.0.0/24", "224.0.0.0/4"]
    if not is_public(address) and not any(
        address in ipaddress.IPv4Network(network) for network in own
    ):
        assert not address.is_global


@given(IPV6)
def test_an_ipv6_address_is_public_only_where_the_library_agrees(
    address: ipaddress.IPv6Address,
) -> None:
    if not is_public(address):
        return
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in ipaddress.IPv6Network("64:ff9b::/96"):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        assert is_public(inner)
        return
    assert address.is_global
    assert not address.is_multicast
    assert address.teredo is None


@given(st.one_of(IPV4, INNER_IPV4))
def test_an_ipv4_address_inside_ipv6_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    for form in embedded(address):
        assert is_public(form) == is_public(address)
        assert is_reachable(form) == is_reachable(address)


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0", "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.31.255.255", "192.168.0.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.0.192", "168.63.129.16", "224.0.0.1"),
        *("255.255.255.255", "240.0.0.1", "198.18.0.1", "203.0.113.9"),
        *("::", "::1", "fe80::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "::127.0.0.1"),
        *("fec0::1", "100::1", "5f00::1"),
    ],
)
def test_inner_addresses_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["d", "#x", "#o", "dots", "short", "hexdots"]))
def test_a_number_that_the_resolver_takes_for_an_address_is_refused(number: int, form: str) -> None:
    a, b, c, d = number.to_bytes(4)
    text = {
        "dots": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        "short": f"{a}.{number & 0xFFFFFF}",
        "hexdots": f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
    }.get(form) or format(number, form)
    if form == "#o":
        text = text.replace("0o", "0")
    assert socket.inet_aton(text) == number.to_bytes(4)
    with pytest.raises(ValueError, match="is a number"):
        canonical_host(text)


@given(st.one_of(IPV4.map(str), IPV6.map(str), IPV6.map(lambda address: address.exploded)))
def test_an_address_has_one_canonical_form(text: str) -> None:
    assert canonical_host(text) == canonical_host(text.upper()) == str(ipaddress.ip_address(text))
    if ":" in text:
        assert canonical_host(f"[{text}]") == canonical_host(text)


@pytest.mark.parametrize(
    "host", ["", ".", "a..b", "-a.example", "a b", "fe80::1%eth0", "1.2.3", "a/b", "x" * 64, "é.de"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical_host(host)


@pytest.mark.parametrize(
    ("entry", "host", "port", "expected"),
    [
        ("api.example.com:443", "api.example.com", 443, True),
        ("API.Example.com.:443", "api.example.com", 443, True),
        ("api.example.com:443", "api.example.com", 80, False),
        ("api.example.com:443", "xapi.example.com", 443, False),
        ("api.example.com", "api.example.com", 80, True),
        ("api.example.com", "api.example.com", 443, True),
        ("api.example.com", "api.example.com", 8080, False),
        ("*.example.com:443", "api.example.com", 443, True),
        ("*.example.com:443", "a.b.example.com", 443, True),
        ("*.example.com:443", "example.com", 443, False),
        ("*.example.com:443", "badexample.com", 443, False),
        ("[2001:db8::1]:8080", "2001:db8::1", 8080, True),
        ("[2001:db8::1]", "2001:db8::1", 443, True),
        ("2001:db8::1", "2001:db8::1", 443, True),
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
    ],
)
def test_an_entry_of_the_list_means_a_host_and_a_port(
    entry: str, host: str, port: int, *, expected: bool
) -> None:
    assert HostPattern.parse(entry).matches(host, port) is expected


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "https://x.example", "x.example:0", "x.example:99999", "x:y", "a*b:1"]
)
def test_an_entry_that_means_nothing_is_refused(entry: str) -> None:
    with pytest.raises(SandboxError, match="expected host:port"):
        HostPattern.parse(entry)


def test_inner_addresses_need_to_be_named_twice() -> None:
    policy = AddressPolicy.parse(["a.example:80", "b.example:80"], ["b.example:80"])
    inner = [ipaddress.ip_address("127.0.0.1")]
    outer = [ipaddress.ip_address("1.1.1.1")]
    policy.check_name("a.example", 80)
    assert policy.usable("a.example", 80, [*inner, *outer]) == outer
    assert policy.usable("b.example", 80, [*inner, *outer]) == [*inner, *outer]
    with pytest.raises(
        HostCallError, match=r'"a.example:80" belongs in \[listeners.http\] private'
    ):
        policy.usable("a.example", 80, inner)
    with pytest.raises(HostCallError, match="which is not public"):
        policy.usable("b.example", 80, [ipaddress.ip_address("0.0.0.0")])
    with pytest.raises(HostCallError, match="may be added"):
        policy.check_name("c.example", 80)
