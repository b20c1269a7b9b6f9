"""Where console hosts may be, and that no other address is connected to."""

from __future__ import annotations

import ipaddress
import socket

import gevent.socket
import pytest

from mksfilter import exceptions
from mksfilter.proxy.upstream.addresses import address_allowed
from tests.proxy.upstream.hosts import Console, connect, endpoint


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "::7f00:1",
        "::ffff:0:7f00:1",
        "fec0::1",
        "feff:ffff::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fd20:ce::254",
        "fd00:ec2::23",
        "fd00:ec2::253",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "fe80::a9fe:a9fe",
        "192.0.0.192",
        "0.1.2.3",
        "240.0.0.1",
        "2001:db8::5efe:7f00:1",
        "2001:db8::200:5efe:a9fe:a9fe",
    ],
)
def test_addresses_that_no_console_host_has_are_refused_unless_listed(address):
    assert not address_allowed(address)
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    assert address_allowed(address, everything)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "100.64.0.1",
        "192.168.1.1",
        "203.0.113.5",
        "2001:4860::1",
        "2001:db8::1",
        "fd12:3456::1",
        "2002:a00:1::1",
        "64:ff9b::a00:1",
        "2001:db8::5efe:a00:1",
    ],
)
def test_other_addresses_are_allowed_unless_networks_are_listed(address):
    assert address_allowed(address)
    assert not address_allowed(address, (ipaddress.ip_network("172.16.0.0/12"),))


def test_a_listed_network_is_allowed_whatever_it_is(serve):
    port = serve(Console())
    connect(endpoint(port), networks=["127.0.0.1/32"]).close()
    with pytest.raises(exceptions.EndpointForbidden, match="allowed_networks"):
        connect(endpoint(port), networks=[])
    with pytest.raises(exceptions.EndpointForbidden):
        connect(endpoint(port), networks=["10.0.0.0/8"])


def test_the_address_checked_is_the_one_connected_to(serve, monkeypatch):
    """DNS rebinding: a name whose second answer is another machine."""
    port = serve(Console())
    answers = [
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))],
    ]
    monkeypatch.setattr(gevent.socket, "getaddrinfo", lambda *args, **options: answers.pop(0))
    connect(endpoint(port, host="esx.example")).close()
    assert len(answers) == 1


def test_a_forbidden_address_is_not_tried_even_beside_an_allowed_one(serve, monkeypatch):
    port = serve(Console())
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in ("169.254.169.254", "127.0.0.1")
    ]
    monkeypatch.setattr(gevent.socket, "getaddrinfo", lambda *args, **options: found)
    connect(endpoint(port, host="esx.example"), timeout=3).close()
