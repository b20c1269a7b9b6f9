"""The headers of the page, over the wire."""

from __future__ import annotations

from mksfilter.simulator.client import WEB_1

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {}"
)


def test_every_page_forbids_itself_what_it_does_not_need(proxy):
    for path in ("/", f"/?token={proxy.token(WEB_1)}", "/?token=bad"):
        headers = proxy.get(path).headers
        assert headers["content-security-policy"] == POLICY.format("'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "x-frame-options" not in headers
        assert "strict-transport-security" not in headers


def test_horizon_may_frame_it_when_the_operator_says_so(proxy_factory):
    proxy = proxy_factory(frame_ancestors="self,https://horizon.example.com")
    policy = proxy.get("/").headers["content-security-policy"]
    assert policy == POLICY.format("'self' https://horizon.example.com")


def test_hsts_follows_the_scheme_that_a_trusted_load_balancer_names(proxy_factory, proxy):
    forwarded = {"x_forwarded_proto": "https"}
    assert "strict-transport-security" not in proxy.get("/", **forwarded).headers
    silent = proxy_factory(trusted_proxies="127.0.0.0/8")
    assert "strict-transport-security" not in silent.get("/", **forwarded).headers
    telling = proxy_factory(trusted_proxies="127.0.0.0/8", hsts_max_age=3600)
    assert telling.get("/", **forwarded).headers["strict-transport-security"] == "max-age=3600"


def test_no_header_names_the_software(proxy):
    """What runs here is nobody's business."""
    for path in ("/", "/x", "/healthz", "/static/console.css"):
        assert "server" not in proxy.get(path).headers
