"""Which addresses a notification may go to."""

import pytest

from control_plane.domain.addresses import is_allowed, networks, ports

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
INWARD = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1"),
    *("192.0.0.8", "192.0.0.192", "192.88.99.1", "168.63.129.16", "::ffff:0:127.0.0.1", "3fff::1"),
    *("", "localhost", "2130706433", "0x7f.1", "1.1.1.1.", "[::1]"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize("address", INWARD)
def test_everything_else_is_refused(address: str) -> None:
    assert not is_allowed(address)


def test_an_operator_allows_networks_and_nothing_beside_them() -> None:
    allowed = networks("10.0.0.0/8, fd00::/8")
    assert is_allowed("10.255.0.1", allowed)
    assert is_allowed("::ffff:10.0.0.1", allowed)
    assert is_allowed("fd00::1", allowed)
    assert not is_allowed("127.0.0.1", allowed)
    assert not is_allowed("fc00::1", allowed)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "all", "10.0.0.0/33"])
def test_a_network_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        networks(text)


def test_ports() -> None:
    assert ports("443, 8443") == {443, 8443}
    assert ports(" * ") is None
    assert ports("1,65535") == {1, 65535}
    for text in ("0", "65536", "http", "-1"):
        with pytest.raises(ValueError, match=r"."):
            ports(text)
