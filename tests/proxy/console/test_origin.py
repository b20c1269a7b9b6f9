"""Which sites may open consoles (CVE-2015-0259, OSSN-0101), and whose headers are believed."""

from __future__ import annotations

import pytest

from mksfilter.exceptions import ConfigurationError, OriginDenied
from mksfilter.proxy.console import origin as origin_module
from mksfilter.proxy.console.origin import (
    OriginPolicy,
    TrustedProxies,
    contains,
    parse_networks,
    parse_origin,
)

LOAD_BALANCER = "10.0.0.7"
NOBODY = TrustedProxies()
OURS = TrustedProxies(["10.0.0.0/24", "fd00::/8"])


def request(
    origin: str | None, host: str = "console.example.com", **changes: str
) -> dict[str, str]:
    fields = {
        "REMOTE_ADDR": "192.0.2.1",
        "HTTP_HOST": host,
        "wsgi.url_scheme": "https",
        **changes,
    }
    return fields if origin is None else {**fields, "HTTP_ORIGIN": origin}


def passes(policy: OriginPolicy, environ: dict[str, str]) -> bool:
    try:
        policy.check(environ)
    except OriginDenied:
        return False
    return True


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "console.example.com"),  # not a browser
        ("https://console.example.com", "console.example.com"),
        ("https://console.example.com:443", "console.example.com"),
        ("https://console.example.com", "console.example.com:443"),
        ("https://CONSOLE.example.com", "console.EXAMPLE.com"),
        ("https://console.example.com:8443", "console.example.com:8443"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_the_pages_own_origin_passes(origin, host):
    assert passes(OriginPolicy([], NOBODY), request(origin, host))


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.net",
        "null",
        "",
        "https://console.example.com.evil.net",
        "https://evil-console.example.com",
        "https://example.com",
        "https://xconsole.example.com",
        "http://console.example.com",
        "https://console.example.com:8443",
        "https://console.example.com:0",
        "https://console.example.com/",
        "https://console.example.com?",
        "https://console.example.com#",
        "https://console.example.com@evil.net",
        "https://evil.net\\console.example.com",
        "https://console.example.com https://evil.net",
        "https://console.example.com, https://evil.net",
        "https://console.exa\tmple.com",
        "wss://console.example.com",
        "file://console.example.com",
        "console.example.com",
        "//console.example.com",
        "https://console.example.com:99999",
        "https://console.example.com:443x",
        "https://[::1",
        "https://c\u043ensole.example.com",
    ],
)
def test_cve_2015_0259_every_other_origin_is_refused(origin):
    assert not passes(OriginPolicy([], NOBODY), request(origin))


def test_the_operators_origins_pass_with_their_scheme_and_port_only():
    policy = OriginPolicy(["https://horizon.example.com:8443/"], NOBODY)
    assert passes(policy, request("https://horizon.example.com:8443"))
    assert not passes(policy, request("https://horizon.example.com"))
    assert not passes(policy, request("http://horizon.example.com:8443"))


def test_the_origin_of_the_base_url_passes_since_the_operator_wrote_it():
    policy = OriginPolicy([], NOBODY, base_url="https://Proxy.example.com:6090/console?x=")
    assert passes(policy, request("https://proxy.example.com:6090", host="internal"))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example.net", "evil.example.net"),
        ("https://console.example.com", "console.example.com"),
        ("https://proxy.example.com", "proxy.example.com"),
        ("http://proxy.example.com:6090", "proxy.example.com:6090"),
        ("https://10.0.0.9:6090", "10.0.0.9:6090"),
        ("https://proxy.example.com.:6090", "proxy.example.com.:6090"),
    ],
)
def test_where_the_operator_told_the_url_the_host_header_makes_no_page_our_own(origin, host):
    """A site whose name leads to us (DNS rebinding) has its own name in Host."""
    policy = OriginPolicy(
        ["https://horizon.example.com"], NOBODY, base_url="https://proxy.example.com:6090/"
    )
    assert not passes(policy, request(origin, host=host))
    assert passes(policy, request("https://proxy.example.com:6090", host=host))
    assert passes(policy, request("https://horizon.example.com", host=host))
    assert passes(OriginPolicy([], NOBODY), request("https://" + host, host=host))


@pytest.mark.parametrize(
    "text", ["horizon.example.com", "https://h/path", "*", "https://", "ftp://h"]
)
def test_an_option_that_is_no_origin_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match=r"allowed_origins.*scheme://host"):
        OriginPolicy([text], NOBODY)


def test_ossn_0101_no_request_changes_what_is_allowed():
    policy = OriginPolicy(["https://horizon.example.com"], NOBODY)
    before = policy.allowed
    for number in range(1000):
        evil = f"evil{number}.example.net"
        assert passes(policy, request(f"https://{evil}", host=evil))  # its own page, no secret
        assert not passes(policy, request(f"https://{evil}"))
    assert policy.allowed == before


FORWARDED = {
    "REMOTE_ADDR": LOAD_BALANCER,
    "wsgi.url_scheme": "http",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "console.example.com",
}


class TestForwardedHeaders:
    def test_a_trusted_load_balancer_tells_scheme_and_host(self):
        environ = request("https://console.example.com", host="10.0.0.9:6090", **FORWARDED)
        assert passes(OriginPolicy([], OURS), environ)

    def test_nobody_else_does(self):
        environ = request("https://console.example.com", host="10.0.0.9:6090", **FORWARDED)
        assert not passes(OriginPolicy([], NOBODY), environ)
        evil = {"HTTP_X_FORWARDED_HOST": "evil.net", "HTTP_X_FORWARDED_PROTO": "https"}
        assert not passes(OriginPolicy([], OURS), request("https://evil.net", **evil))

    def test_of_several_values_the_nearest_proxys_counts(self):
        environ = request("https://console.example.com", **FORWARDED) | {
            "HTTP_X_FORWARDED_HOST": "evil.net, console.example.com",
            "HTTP_X_FORWARDED_PROTO": "http, https",
        }
        assert passes(OriginPolicy([], OURS), environ)


class TestClientAddress:
    @staticmethod
    def address(peer: str, forwarded: str | None, proxies: TrustedProxies = OURS) -> str:
        environ = {"REMOTE_ADDR": peer}
        if forwarded is not None:
            environ["HTTP_X_FORWARDED_FOR"] = forwarded
        return proxies.client_address(environ)

    def test_without_a_trusted_proxy_it_is_the_peer(self):
        assert self.address("192.0.2.1", None) == "192.0.2.1"
        assert self.address("192.0.2.1", "10.0.0.1, 198.51.100.9") == "192.0.2.1"

    def test_behind_one_it_is_the_right_most_address_that_is_not_trusted(self):
        assert self.address(LOAD_BALANCER, "198.51.100.9") == "198.51.100.9"
        assert self.address(LOAD_BALANCER, "1.2.3.4, 198.51.100.9, 10.0.0.8") == "198.51.100.9"
        assert self.address(LOAD_BALANCER, "1.2.3.4, 198.51.100.9:5151") == "198.51.100.9"
        assert self.address(LOAD_BALANCER, "[2001:db8::1]:5151") == "2001:db8::1"
        assert self.address("fd00::1", "198.51.100.9") == "198.51.100.9"

    def test_nonsense_ends_the_chain(self):
        assert self.address(LOAD_BALANCER, "198.51.100.9, nonsense") == LOAD_BALANCER
        assert self.address(LOAD_BALANCER, "198.51.100.9, nonsense, 10.0.0.8") == "10.0.0.8"
        assert self.address(LOAD_BALANCER, "") == LOAD_BALANCER

    def test_an_ipv4_address_in_ipv6_dress_is_the_same(self):
        assert self.address("::ffff:10.0.0.7", "198.51.100.9") == "198.51.100.9"

    def test_a_unix_socket_is_trusted_only_by_name(self):
        assert self.address("", "198.51.100.9") == ""
        assert self.address("", "198.51.100.9", TrustedProxies(["unix"])) == "198.51.100.9"


def test_networks_are_checked_when_they_are_configured():
    with pytest.raises(ConfigurationError, match=r"trusted_proxies.*10\.0\.0\.1/8"):
        TrustedProxies(["10.0.0.1/8"])
    networks = parse_networks(["10.0.0.0/8"], "x")
    assert contains(networks, "10.1.2.3")
    assert not contains(networks, "11.1.2.3")
    assert not contains(networks, "nonsense")


def test_an_origin_is_written_without_its_usual_port():
    assert str(parse_origin("https://h:443")) == "https://h"
    assert str(parse_origin("http://[::1]:443")) == "http://[::1]:443"


def test_a_header_of_thousands_of_addresses_is_read_from_the_right_and_not_to_its_end(monkeypatch):
    parsed = []
    real = origin_module.ip_address
    monkeypatch.setattr(origin_module, "ip_address", lambda text: parsed.append(text) or real(text))
    proxies = TrustedProxies(["10.0.0.0/8"])
    hops = "192.0.2.7," + "10.0.0.9," * 900 + "10.0.0.8"
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": hops}
    assert proxies.client_address(environ) == "10.0.0.9"
    assert len(parsed) < 100


def test_an_origin_longer_than_any_host_name_is_none():
    with pytest.raises(ValueError, match="too long"):
        parse_origin("https://" + "a" * 30_000)


def test_a_network_may_stand_in_brackets_and_one_of_mapped_addresses_is_ipv4s():
    networks = parse_networks(["[::1]", "[fd00::]/8", "::ffff:10.0.0.0/104"], "x")
    for address in ("::1", "fd00::7", "10.1.2.3", "::ffff:10.1.2.3"):
        assert contains(networks, address)
    for address in ("::2", "11.1.2.3", "::ffff:11.1.2.3"):
        assert not contains(networks, address)
    with pytest.raises(ConfigurationError, match="x: "):
        parse_networks(["[::1"], "x")
