"""What is served to browsers, and with which headers."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from mksfilter.exceptions import ConfigurationError, KeysUnavailable, TokenExpired
from mksfilter.proxy.web.page import Pages


@pytest.fixture
def root(tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "console.html").write_text(
        '<html>noVNC<script src="static/novnc/console.js"></script></html>'
    )
    (tmp_path / "templates" / "message.html").write_text("<h1>$heading</h1><p>$message</p>")
    (tmp_path / "static" / "novnc").mkdir(parents=True)
    (tmp_path / "static" / "novnc" / "console.js").write_text("let a = 1;\n" * 200)
    (tmp_path / "static" / ".hidden.js").write_text("")
    (tmp_path / "static" / "source.py").write_text("")
    return tmp_path


@pytest.fixture
def pages(root):
    return Pages(root=root)


JS = "/static/novnc/console.js"


def console(pages):
    return pages.console(tls=False).body


def test_the_page_forbids_itself_everything_it_does_not_need(pages):
    headers = dict(pages.console(tls=False).headers)
    assert headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "X-Frame-Options" not in headers
    assert "Set-Cookie" not in headers


def test_a_page_that_was_not_built_is_a_503_that_says_so_to_people_and_in_the_log(root, caplog):
    (root / "static" / "novnc" / "console.js").unlink()
    answer = Pages(root=root).console(tls=False)
    assert answer.status == 503
    assert b"The console page is not built" in answer.body
    assert "tools/build-page" in caplog.text


def test_hsts_is_said_over_tls_only_and_where_the_operator_wants_it(pages, root):
    assert "Strict-Transport-Security" not in dict(pages.console(tls=False).headers)
    assert "Strict-Transport-Security" not in dict(pages.console(tls=True).headers)
    told = Pages(hsts=86400, root=root)
    assert "Strict-Transport-Security" not in dict(told.console(tls=False).headers)
    assert dict(told.console(tls=True).headers)["Strict-Transport-Security"] == "max-age=86400"


def test_the_operator_says_who_may_frame_the_page(root):
    pages = Pages(["self", "https://horizon.example.com", "https://*.example.org:8443"], root=root)
    policy = dict(pages.console(tls=False).headers)["Content-Security-Policy"]
    assert policy.endswith(
        "frame-ancestors 'self' https://horizon.example.com https://*.example.org:8443"
    )


@pytest.mark.parametrize("text", ["*", "'self'", "https://a; script-src *", "a b", "https://a/b"])
def test_a_frame_ancestor_that_is_no_origin_is_refused_by_name(root, text):
    with pytest.raises(ConfigurationError, match="frame_ancestors"):
        Pages([text], root=root)


def test_cve_2017_18635_markup_in_a_message_stays_text(pages):
    answer = pages.message(403, "<b>", "<script>alert(1)</script>", tls=False)
    assert answer.status == 403
    assert answer.body == b"<h1>&lt;b&gt;</h1><p>&lt;script&gt;alert(1)&lt;/script&gt;</p>"


@pytest.fixture
def translated(root):
    """Where the page's build has left what pages of the proxy's own say."""
    words = {
        "de": {"direction": "ltr", "heading": "<Nein>", "denied": "Abgelaufen"},
        "ar": {"direction": "rtl", "heading": "x", "keys-unavailable": "y"},
    }
    (root / "static" / "novnc" / "messages.json").write_text(json.dumps(words))
    (root / "templates" / "message.html").write_text(
        "$language $direction <h1>$heading</h1><p>$message</p>"
    )
    return Pages(root=root)


def test_a_link_is_refused_in_its_reader_s_language(translated):
    answer = translated.refusal(TokenExpired("old"), tls=False, accept="de-AT,en;q=0.5")
    assert answer.status == 403
    assert answer.body == b"de ltr <h1>&lt;Nein&gt;</h1><p>Abgelaufen</p>"
    assert dict(answer.headers)["Content-Language"] == "de"
    answer = translated.refusal(KeysUnavailable("gone"), tls=False, wanted="ar", accept="de")
    assert (answer.status, answer.body) == (503, b"ar rtl <h1>x</h1><p>y</p>")


def test_without_the_words_for_it_a_link_is_refused_in_english(translated, root):
    for accept in ("", "it", "en,de;q=0.5"):
        answer = translated.refusal(TokenExpired("old"), tls=False, accept=accept)
        assert answer.body.startswith(b"en ltr <h1>The console could not be opened</h1><p>This")
        assert dict(answer.headers)["Content-Language"] == "en"
    # The page is not built.
    (root / "static" / "novnc" / "messages.json").unlink()
    answer = Pages(root=root).refusal(TokenExpired("old"), tls=False, accept="de")
    assert answer.body.startswith(b"en ltr <h1>The console could not be opened</h1>")


@pytest.mark.page
@pytest.mark.parametrize("language", ["de", "es", "fr", "ja"])
def test_each_language_of_the_page_has_words_for_a_refused_link(language):
    answers = [
        Pages().refusal(refused, tls=False, accept=language).body.decode()
        for refused in (TokenExpired("old"), KeysUnavailable("gone"))
    ]
    for answer, refused in zip(answers, (TokenExpired, KeysUnavailable), strict=True):
        assert answer.startswith(f'<!DOCTYPE html>\n<html lang="{language}" dir="ltr">')
        assert refused.public not in answer
        assert "<script" not in answer
    assert answers[0] != answers[1]


def test_a_known_file_is_served_with_its_type_and_asked_for_once_per_release(pages):
    answer = pages.static(JS, {})
    headers = dict(answer.headers)
    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    for known in (headers["ETag"], f'"x", {headers["ETag"]}', f"W/{headers['ETag']}"):
        again = pages.static(JS, {"HTTP_IF_NONE_MATCH": known})
        assert (again.status, again.body) == (304, b"")
    assert pages.static(JS, {"HTTP_IF_NONE_MATCH": '"other"'}).status == 200


def test_a_file_is_compressed_for_who_takes_that(pages):
    plain = pages.static(JS, {"HTTP_ACCEPT_ENCODING": "br, gzip;q=0"})
    packed = pages.static(JS, {"HTTP_ACCEPT_ENCODING": "br, gzip"})
    assert gzip.decompress(packed.body) == plain.body
    assert dict(packed.headers)["Content-Encoding"] == "gzip"
    assert dict(packed.headers)["Vary"] == "Accept-Encoding"
    assert len(packed.body) < len(plain.body)


def test_the_page_names_its_files_by_release_and_browsers_keep_them(pages, root):
    (script,) = re.findall(rb'src="(static/[0-9a-f]{16}/novnc/console.js)"', console(pages))
    kept = pages.static(f"/{script.decode()}", {})
    assert kept.body == pages.static(JS, {}).body
    assert dict(kept.headers)["Cache-Control"] == "public, max-age=31536000, immutable"
    (root / "static" / "novnc" / "console.js").write_text("let a = 2;\n")
    assert script not in console(Pages(root=root))


def test_a_page_of_another_release_gets_this_one_s_files_and_keeps_none(pages):
    answer = pages.static("/static/0123456789abcdef/novnc/console.js", {})
    assert answer.body == pages.static(JS, {}).body
    assert dict(answer.headers)["Cache-Control"] == "no-cache"
    assert pages.static("/static/0123456789abcdef/novnc/other.js", {}) is None


def test_sites_that_may_open_consoles_may_load_the_element_and_no_other_file(root):
    (root / "static" / "v1").mkdir()
    (root / "static" / "v1" / "mks-console.js").write_text("let a = 1;\n")
    (root / "static" / "v1" / "mks-console.d.ts").write_text("type A = 1;\n")
    dashboard = {"HTTP_ORIGIN": "https://dashboard.example.com"}
    pages = Pages(may_open=lambda environ: environ == dashboard, root=root)
    allow = "Access-Control-Allow-Origin"
    for name in ("mks-console.js", "mks-console.d.ts"):
        headers = dict(pages.static(f"/static/v1/{name}", dashboard).headers)
        assert headers[allow] == "https://dashboard.example.com"
        assert headers["Vary"] == "Accept-Encoding, Origin"
    for environ in ({}, {"HTTP_ORIGIN": "https://evil.example.com"}):
        headers = dict(pages.static("/static/v1/mks-console.js", environ).headers)
        assert allow not in headers
        assert headers["Vary"] == "Accept-Encoding, Origin"
    assert allow not in dict(pages.static(JS, dashboard).headers)
    assert allow not in dict(pages.console(tls=False).headers)


def test_the_page_is_compressed_for_who_takes_that(root):
    (root / "templates" / "console.html").write_text("<p>noVNC</p>" * 200)
    pages = Pages(root=root)
    answer = pages.console(tls=False, encodings="gzip, br")
    assert gzip.decompress(answer.body) == console(pages)
    assert dict(answer.headers)["Content-Encoding"] == "gzip"
    assert dict(answer.headers)["Vary"] == "Accept-Encoding"


def test_what_the_build_compressed_is_served_unless_it_is_of_other_sources(root):
    script = root / "static" / "novnc" / "console.js"
    built = gzip.compress(script.read_bytes(), 1)
    script.with_name("console.js.gz").write_bytes(built)
    takes_gzip = {"HTTP_ACCEPT_ENCODING": "gzip"}
    assert Pages(root=root).static(JS, takes_gzip).body == built
    script.write_text("let b = 2;\n" * 200)
    assert gzip.decompress(Pages(root=root).static(JS, takes_gzip).body) == script.read_bytes()
    script.with_name("console.js.gz").write_bytes(b"no gzip")
    assert gzip.decompress(Pages(root=root).static(JS, takes_gzip).body) == script.read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static",
        "/static/novnc",
        "/static/../templates/console.html",
        "/static/novnc/../novnc/console.js",
        "/static//novnc/console.js",
        "/static/novnc/console.js/",
        "/static/0123456789abcdef/",
        "/static/0123456789abcdef/0123456789abcdef/novnc/console.js",
        "/static/0123456789ABCDEF/novnc/console.js",
        "/static/%2e%2e/app.py",
        "/static/novnc/console.js.gz",
        "/static/.hidden.js",
        "/static/source.py",
        "/etc/passwd",
    ],
)
def test_nothing_else_is_served(pages, path):
    assert pages.static(path, {}) is None


@pytest.mark.page
def test_the_real_page_is_what_tempest_looks_for():
    body = Pages().console(tls=False).body
    for needle in (b"<html", b"noVNC", b"<script"):
        assert needle in body
