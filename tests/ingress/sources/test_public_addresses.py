from ipaddress import ip_network

import pytest

from services.ingress.sources.public_addresses import AddressNotAllowed, PublicAddresses, check_literal


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
        *("[::1]", "[fe80::1]", "[fe80::1%25eth0]", "[fec0::1]", "[fd00:ec2::254]", "[ff0e::1]"),
        # An IPv4 address inside: mapped, compatible, translated, of NAT64, of a local NAT64, 6to4, Teredo.
        *("[::ffff:10.0.0.1]", "[::10.0.0.1]", "[::ffff:0:10.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::a00:1]"),
        *("[2002:a00:1::1]", "[2001:0:a00:1::1]"),
    ],
)
def test_an_address_that_is_not_public_is_refused(host):
    with pytest.raises(AddressNotAllowed):
        check_literal(f"https://{host}/clip.mp4", [])


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "[64:ff9b::8.8.8.8]", "videos.example.com"])
def test_public_addresses_and_names_pass(host):
    check_literal(f"https://{host}/clip.mp4", [])


def test_networks_that_the_operator_allows_pass():
    check_literal("https://10.1.2.3/clip.mp4", [ip_network("10.1.0.0/16")])
    check_literal("https://[64:ff9b::10.1.2.3]/clip.mp4", [ip_network("10.1.0.0/16")])
    check_literal("https://[2002:a01:203::1]/clip.mp4", [ip_network("2002::/16")])
    with pytest.raises(AddressNotAllowed):
        check_literal("https://10.2.2.3/clip.mp4", [ip_network("10.1.0.0/16")])


async def test_a_name_with_such_an_address_is_refused():
    with pytest.raises(AddressNotAllowed):
        await PublicAddresses([]).resolve("localhost", 443)
    assert await PublicAddresses([ip_network("127.0.0.0/8"), ip_network("::1/128")]).resolve("localhost", 443)
