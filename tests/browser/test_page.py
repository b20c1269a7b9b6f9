"""The console page by itself, in Chromium, in front of a fake server that ends as it is told."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from http import HTTPStatus
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from mksfilter.auth.proof import check, thumbprint
from mksfilter.exceptions import IdleTimeout

from .fake_server import HEIGHT, LEFT, RIGHT, WIDTH, Plan

TOKEN = "mks1.k1.cGF5bG9hZA.bWFj"
CONTROL, ALT, DELETE, SHIFT, RETURN, TAB = 0xFFE3, 0xFFE9, 0xFFFF, 0xFFE1, 0xFF0D, 0xFF09


@pytest.fixture
def opened(fake, new_screen):
    """Opens a console; gives the screen and the fake server's end of the connection."""

    def open_console(plan=None, *, title="web-1", **options):
        if plan:
            fake.plans.append(plan)
        screen = new_screen(f"{fake.url}?token={TOKEN}&title={title}", **options)
        connection = fake.next_connection()
        return screen, connection

    return open_console


@pytest.fixture
def console(opened):
    """A console that is open and drawn."""
    screen, connection = opened()
    screen.wait_until("connected")
    screen.wait_for_picture()
    return screen, connection


def pressed(*keysyms):
    """Keys down in order, up in reverse."""
    return [(key, True) for key in keysyms] + [(key, False) for key in reversed(keysyms)]


# --- before all of it is loaded --------------------------------------------------------------


def release_with_connection(fake):
    """Keep the page's script back until the console's connection is there."""
    fake.script.clear()
    found = []

    def wait():
        found.append(fake.next_connection())
        fake.script.set()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, found


def test_the_console_is_asked_for_while_the_rest_of_the_page_still_loads(fake, new_screen):
    fake.plans.append(Plan(machine="early"))
    thread, found = release_with_connection(fake)
    screen = new_screen(f"{fake.url}?token={TOKEN}")
    thread.join(20)
    assert found, "no connection before the page's script"
    screen.wait_until("connected")
    screen.wait_for_picture()
    expect(screen.find("#title")).to_have_text("early")
    assert "token" not in screen.page.url
    found[0].drop()
    again = fake.next_connection()
    assert again.token == "resume-1"
    assert thumbprint(again.proof.split(".")[1]) == thumbprint(found[0].key)
    assert screen.complaints == []


def test_a_refusal_that_came_before_the_page_is_told_by_it(fake, new_screen):
    fake.plans.append(Plan(end=("host-unreachable", "It is off.")))
    thread, _ = release_with_connection(fake)
    screen = new_screen(f"{fake.url}?token={TOKEN}")
    thread.join(20)
    screen.wait_for_words("It is off.")


def test_a_page_whose_script_does_not_come_says_so_and_leaves_the_console(fake, new_screen):
    fake.script_status = HTTPStatus.SERVICE_UNAVAILABLE
    thread, connections = release_with_connection(fake)
    screen = new_screen(f"{fake.url}?token={TOKEN}")
    thread.join(20)
    screen.wait_for_words("The console page could not be loaded")
    assert connections[0].closed.wait(10)


# --- what is seen --------------------------------------------------------------------------


def test_the_picture_is_the_framebuffer_and_nothing_is_complained_about(console):
    screen, _ = console
    picture = screen.picture()
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.getpixel((1, 1)) == LEFT
    assert picture.getpixel((WIDTH - 2, HEIGHT - 2)) == RIGHT
    assert screen.complaints == []
    assert screen.violations() == []


def test_it_fits_the_window_until_told_otherwise(console):
    screen, _ = console
    width, height = screen.size()
    viewport = screen.page.viewport_size
    assert width == viewport["width"] or height == viewport["height"]
    assert width / height == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    screen.open_bar()
    screen.button("Fit window").click()
    assert screen.size() == (WIDTH, HEIGHT)
    expect(screen.button("Fit window")).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_light_or_dark_of_its_user(opened, scheme):
    screen, _ = opened(color_scheme=scheme)
    screen.wait_until("connected")
    colour = screen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3
    assert (brightness > 128) == (scheme == "light")


def test_in_a_narrow_window_the_tool_bar_still_fits_and_has_its_names(opened):
    screen, _ = opened(viewport={"width": 360, "height": 600})
    screen.wait_until("connected")
    screen.open_bar()
    for name in ("Ctrl-Alt-Del", "Keys", "Type text", "Fit window", "Full screen", "Disconnect"):
        box = screen.button(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    screen.button("Keys").click()
    box = screen.find("#combo-menu").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_a_proxy_without_the_control_channel_works_too(opened):
    screen, connection = opened(Plan(plain=True))
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.page.keyboard.type("a")
    assert connection.next_keys(2) == pressed(ord("a"))


def test_it_finds_its_console_under_a_path_prefix(new_fake, new_screen):
    fake = new_fake(path="/consoles/east/")
    screen = new_screen(f"{fake.url}?token={TOKEN}")
    screen.wait_until("connected")


@pytest.mark.parametrize(
    "link",
    [
        "vnc_auto.html?path=cell1/mks/websockify&token={}",
        "vnc_auto.html?path=%2Fcell1%2Fmks%2Fwebsockify&token={}",
        "vnc_lite.html?path=cell1/mks/websockify%3Ftoken%3D{}",
        "vnc_lite.html?path=cell1/mks/websockify?token={}",
        "vnc.html?path=%3Ftoken%3D{}",
        "vnc.html?region=1&token={}",
    ],
)
def test_a_link_of_an_older_console_service_opens_the_console(new_fake, new_screen, link):
    """``path`` is the WebSocket's from the root of the origin, as noVNC reads it."""
    fake = new_fake(path="/cell1/mks/")
    screen = new_screen(fake.url + link.format(TOKEN))
    screen.wait_until("connected")
    connection = fake.next_connection()
    assert connection.token == TOKEN
    assert connection.websocket.request.path == "/cell1/mks/websockify"
    assert TOKEN not in screen.page.url


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/websockify",
        "/\\evil.example/websockify",
        "https://evil.example/websockify",
        "wss:evil.example/websockify",
        "javascript:websockify",
        "other/application",
        "websockify#",
        "web sockify",
    ],
)
def test_a_path_that_is_no_consoles_is_refused_in_words(fake, new_screen, path):
    screen = new_screen(f"{fake.url}?token={TOKEN}&path={quote(path)}")
    screen.wait_for_words("names a path that is not a console's")
    expect(screen.find("#retry")).to_be_hidden()
    assert fake.connections.empty()
    assert screen.complaints == []


@pytest.mark.parametrize(
    ("language", "expected"),
    [("de", "de"), ("zh-hans", "en"), ("", "en"), ("%22%3E", "en"), ("a" * 99, "en")],
)
def test_the_document_s_language_is_the_one_that_it_is_in(fake, new_screen, language, expected):
    screen = new_screen(f"{fake.url}?token={TOKEN}&language={language}")
    screen.wait_until("connected")
    expect(screen.page.locator("html")).to_have_attribute("lang", expected)
    assert screen.complaints == []


# --- the token and the title ---------------------------------------------------------------


def test_the_token_is_gone_from_the_address_bar_and_travels_as_a_subprotocol(console, fake):
    screen, connection = console
    assert screen.page.url == f"{fake.url}?title=web-1"
    assert connection.offered[:3] == ["mks.v1", "binary", f"mks.token.{TOKEN}"]
    assert connection.websocket.request.path == "/websockify"
    assert TOKEN not in screen.page.content()
    # For a reload the tab keeps the token that is bound to its key, and no link.
    kept = screen.page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    assert "resume-1" in kept
    assert TOKEN not in kept


def test_of_several_tokens_the_last_counts_as_in_novas_proxies(fake, new_screen):
    new_screen(f"{fake.url}?token=old&token={TOKEN}")
    assert fake.next_connection().token == TOKEN


def test_markup_in_the_title_stays_text_cve_2017_18635(opened):
    screen, _ = opened(title="%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%26amp;(uuid)")
    screen.wait_until("connected")
    text = "<img src=x onerror=alert(1)>&amp;(uuid)"
    expect(screen.find("#title")).to_have_text(text)
    assert screen.page.title() == f"{text} - Console"
    assert screen.find("#title img").count() == 0
    assert screen.complaints == []


def test_the_machine_s_own_name_takes_the_place_of_the_link_s_title(opened):
    """A link to one's own machine under another's name, on our origin."""
    screen, _ = opened(Plan(machine="<i>mine</i>", name="a screen"), title="your-bank")
    screen.wait_until("connected")
    expect(screen.find("#title")).to_have_text("<i>mine</i>")
    expect(screen.find("#who")).to_have_text("<i>mine</i>")
    assert screen.page.title() == "<i>mine</i> - Console"
    assert screen.find("#title i").count() == 0
    assert "your-bank" not in screen.find("canvas").get_attribute("aria-label")


def test_without_a_title_the_consoles_own_name_is_shown_as_text(opened):
    screen, _ = opened(Plan(name="<b>db-7</b>"), title="")
    screen.wait_until("connected")
    expect(screen.find("#title")).to_have_text("<b>db-7</b>")


def test_markup_in_the_reason_of_an_end_stays_text_cve_2017_18635(opened):
    screen, _ = opened(Plan(end=("host-unreachable", "<script>alert(1)</script> is off")))
    screen.wait_for_words("<script>alert(1)</script> is off")
    assert screen.find("#card script").count() == 0


def test_a_page_without_a_token_says_so_and_connects_nowhere(fake, new_screen):
    screen = new_screen(fake.url)
    screen.wait_for_words("This console link has been used up")
    assert fake.connections.empty()


def test_a_token_that_no_header_can_carry_is_refused_in_words(fake, new_screen):
    screen = new_screen(f"{fake.url}?token=a%20b%0D%0Ac")
    screen.wait_for_words("did not accept this link")
    assert fake.connections.empty()
    assert screen.complaints == []


# --- ends and new beginnings ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "button"),
    [
        ("connection-limit", "Try again"),
        ("host-unreachable", "Try again"),
        ("vcenter-unreachable", "Try again"),
        ("certificate-mismatch", "Try again"),
        ("denied", None),
        ("token-expired", None),
        ("instance-not-found", None),
    ],
)
def test_a_console_that_does_not_open_says_why(opened, reason, button):
    screen, _ = opened(Plan(end=(reason, f"Words about {reason}.")))
    screen.wait_until("ended")
    screen.wait_for_words("The console could not be opened")
    screen.wait_for_words(f"Words about {reason}.")
    expect(screen.find("#retry")).to_be_visible(visible=button is not None)
    if button:
        expect(screen.find("#retry")).to_have_text(button)
    assert screen.complaints == []


def test_an_end_without_words_gets_those_of_its_reason(console):
    screen, connection = console
    connection.control(type="end", reason=IdleTimeout.reason)
    connection.websocket.close(IdleTimeout.close_code)
    screen.wait_until("ended")
    screen.wait_for_words(IdleTimeout.public)


@pytest.mark.parametrize(
    ("reason", "button"),
    [
        ("idle-timeout", True),
        ("upstream-protocol-error", True),
        ("lifetime-reached", False),
    ],
)
def test_a_console_that_ends_for_good_reason_stays_ended(console, fake, reason, button):
    screen, connection = console
    connection.control(type="end", reason=reason, message=f"Words about {reason}.")
    connection.websocket.close(4400)
    screen.wait_until("ended")
    screen.wait_for_words("The console has ended")
    screen.wait_for_words(f"Words about {reason}.")
    expect(screen.find("#retry")).to_be_visible(visible=button)
    # Typing goes on for a moment after an end; Enter must not open a console again.
    screen.page.keyboard.press("Enter")
    assert fake.connections.empty()
    if button:
        screen.page.keyboard.press("Tab")
        screen.page.keyboard.press("Enter")
        assert fake.next_connection().token == "resume-1"


def test_after_a_lost_connection_it_comes_back_with_the_resume_token(console, fake):
    screen, connection = console
    connection.control(type="resume", token="renewed")
    screen.page.keyboard.type("a")
    connection.next_keys(2)
    connection.drop()
    again = fake.next_connection()
    assert again.token == "renewed"
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.page.keyboard.type("b")
    assert again.next_keys(2) == pressed(ord("b"))


@pytest.mark.parametrize("ahead", [0, 400 * 86_400], ids=["right", "a year slow"])
def test_a_reconnect_proves_possession_of_the_page_s_key(console, fake, ahead):
    """Whatever the clock of the user's machine says: the proxy tells the time."""
    _, connection = console
    now = time.time() + ahead
    payload = base64.urlsafe_b64encode(json.dumps({"jti": "J" * 22}).encode()).rstrip(b"=")
    token = f"mks1.0123456789ab.{payload.decode()}.mac"
    connection.control(type="hello", mode="full", resume=token, now=now)
    connection.drop()
    again = fake.next_connection()
    assert again.token == token
    assert not again.key
    check(
        again.proof,
        cnf=thumbprint(connection.key),
        origin=again.websocket.request.headers["Origin"],
        jti="J" * 22,
        now=now,
    )


def test_the_private_half_of_the_page_s_key_cannot_be_read(console):
    """Not by a script that was smuggled in, and not by an extension."""
    screen, _ = console
    assert screen.page.evaluate("window.keys.map((key) => key.extractable)") == [False]


def test_while_it_waits_the_last_picture_stays_and_a_button_hurries(console, fake):
    screen, connection = console
    screen.stop_clock()
    connection.drop()
    screen.wait_until("waiting")
    screen.wait_for_words("Connection lost")
    expect(screen.find(".still")).to_be_visible()
    screen.button("Try now").click()
    fake.next_connection()
    screen.wait_until("connected")
    expect(screen.find(".still")).to_have_count(0)


def test_a_draining_node_is_left_for_another_one_without_being_asked(console, fake):
    screen, connection = console
    connection.control(type="notice", notice="draining", **{"in": 0.2})
    assert fake.next_connection().token == "resume-1"
    assert connection.closed.wait(5)
    screen.wait_until("connected")
    assert screen.complaints == []


def test_the_end_of_the_sessions_time_is_counted_down(console):
    screen, connection = console
    screen.stop_clock()
    connection.control(type="notice", notice="lifetime", **{"in": 125})
    expect(screen.find("#notice")).to_have_text("Ends in 2:05")
    expect(screen.find("#hint")).to_contain_text("Ends in")
    screen.pass_time(65)
    expect(screen.find("#notice")).to_have_text("Ends in 1:00")


def test_disconnect_ends_it_and_reconnect_resumes_it(console, fake):
    screen, connection = console
    screen.open_bar()
    screen.button("Disconnect").click()
    screen.wait_for_words("You disconnected from the console")
    assert connection.closed.wait(5)
    screen.button("Reconnect").click()
    assert fake.next_connection().token == "resume-1"
    screen.wait_until("connected")


def test_control_messages_of_a_newer_server_are_left_alone(console):
    screen, connection = console
    connection.control(type="hologram", resume=7)
    connection.control(type="notice", notice="unheard-of")
    screen.page.keyboard.type("a")
    connection.next_keys(2)
    screen.wait_until("connected")
    assert screen.complaints == []


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(security=2), "asks for a password"),
        (Plan(security=6), "asks for a password"),
        (Plan(security=0), "refused the connection: <i>not today</i>"),
        (Plan(security=99), "a picture that this page does not understand"),
        (Plan(greeting=b"HTTP/1.1 400"), "a picture that this page does not understand"),
    ],
)
def test_a_console_that_noVNC_cannot_use_ends_in_words(opened, plan, words):
    screen, _ = opened(plan)
    screen.wait_until("ended")
    screen.wait_for_words(words)


# --- keys ----------------------------------------------------------------------------------


def test_keys_go_to_the_machine_tab_and_escape_too(console):
    screen, connection = console
    for key in ("a", "Tab", "Escape", "F5"):
        screen.page.keyboard.press(key)
    keys = [keysym for keysym, down in connection.next_keys(8) if down]
    assert keys == [ord("a"), TAB, 0xFF1B, 0xFFC2]


def test_the_tool_bar_is_used_by_keyboard_alone(console):
    screen, connection = console
    screen.open_bar()
    # The chord's first two keys reached the machine and must not stay down there; it is the page or
    # the keyboard that lets go of each, whoever is first.
    keys = connection.next_keys(4)
    assert keys[:2] == pressed(CONTROL, ALT)[:2]
    assert set(keys[2:]) == {(CONTROL, False), (ALT, False)}
    assert screen.focused() == "Ctrl-Alt-Del"
    screen.page.keyboard.press("Enter")
    assert connection.next_keys(6) == pressed(CONTROL, ALT, DELETE)
    assert screen.focused() == "canvas"

    screen.open_bar()
    connection.next_keys(4)
    screen.page.keyboard.press("ArrowRight")
    assert screen.focused() == "Keys"
    screen.page.keyboard.press("ArrowDown")
    assert screen.focused() == "Esc"
    screen.page.keyboard.press("ArrowDown")
    screen.page.keyboard.press("ArrowDown")
    assert screen.focused() == "Alt-Tab"
    screen.page.keyboard.press("Enter")
    assert connection.next_keys(4) == pressed(ALT, TAB)

    screen.open_bar()
    connection.next_keys(4)
    screen.page.keyboard.press("End")
    assert screen.focused() == "Disconnect"
    screen.page.keyboard.press("Escape")
    assert screen.focused() == "canvas"
    screen.page.keyboard.type("z")
    assert connection.next_keys(2) == pressed(ord("z"))


def test_the_tool_bar_goes_out_of_the_way_by_itself_and_comes_back_for_the_pointer(console):
    screen, _ = console
    expect(screen.find("#tools")).to_be_hidden(timeout=8_000)
    screen.stop_clock()
    box = screen.find("#handle").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    is_tool_at = "([x, y]) => document.elementFromPoint(x, y).closest('.tool') !== null"
    screen.page.mouse.move(x, y)
    expect(screen.find("#tools")).to_be_visible()
    screen.page.wait_for_function(
        "() => document.getElementById('tools').getBoundingClientRect().top === 0"
    )
    # A click on the handle must not hit the tool that has slid in below it.
    assert not screen.page.evaluate(is_tool_at, [x, y])
    screen.pass_time(0.5)
    assert screen.page.evaluate(is_tool_at, [x, y])
    screen.page.mouse.move(300, 500)
    screen.pass_time(1)
    expect(screen.find("#tools")).to_be_hidden()


def test_text_is_typed_key_by_key_with_shift_where_the_layout_needs_it(console):
    screen, connection = console
    screen.open_strip()
    connection.next_keys(4)
    screen.page.keyboard.insert_text("aB{\t\n")
    screen.page.keyboard.press("Control+Enter")
    expected = [
        *pressed(ord("a")),
        *pressed(SHIFT, ord("B")),
        *pressed(SHIFT, ord("{")),
        *pressed(TAB),
        *pressed(RETURN),
    ]
    assert connection.next_keys(len(expected)) == expected
    expect(screen.find("#paste-dialog")).to_be_hidden()
    expect(screen.find("#paste-text")).to_have_value("")
    expect(screen.find("#hint")).to_have_text("5 of 5 characters typed")
    assert screen.focused() == "canvas"
    assert screen.complaints == []
    assert screen.violations() == []


def test_a_host_that_no_longer_answers_is_told_and_what_it_has_not_taken_is_kept(console):
    screen, connection = console
    screen.open_strip()
    connection.next_keys(4)
    connection.mute = True
    screen.find("#paste-text").fill("ab")
    screen.stop_clock()
    screen.button("Type it").click()
    assert connection.next_keys(2) == pressed(ord("a"))
    for _ in range(12):
        screen.pass_time(1)
    expect(screen.find("#paste-progress")).to_contain_text(
        "The host no longer answers: 0 of 2 characters typed. Number 1 may have arrived"
    )
    expect(screen.find("#paste-text")).to_have_value("ab")
    assert connection.keys.empty()


@pytest.mark.parametrize("message", [b"\x7f\x00\x00\x02", b"\x7f\x09\x00\x00"])
def test_a_broken_message_of_vmwares_ends_the_console_in_words(console, message):
    screen, connection = console
    # One that is whole and unknown is passed over.
    connection.websocket.send(b"\x7f\x63\x00\x06ab")
    connection.websocket.send(message)
    screen.wait_until("ended")
    screen.wait_for_words("a picture that this page does not understand")


def test_full_screen_and_back(console):
    screen, _ = console
    screen.open_bar()
    screen.button("Full screen").click()
    expect(screen.find("#full")).to_have_attribute("aria-pressed", "true")
    screen.open_bar()
    screen.button("Full screen").click()
    expect(screen.find("#full")).to_have_attribute("aria-pressed", "false")


def test_a_view_only_console_says_so_and_sends_no_keys(opened):
    screen, connection = opened(Plan(mode="view"))
    screen.wait_until("connected")
    expect(screen.find("#mode")).to_have_text("View only")
    screen.wait_for_picture()
    screen.page.mouse.click(300, 300)
    screen.page.keyboard.type("abc")
    screen.open_bar()
    for name in ("Ctrl-Alt-Del", "Keys", "Type text"):
        expect(screen.button(name)).to_be_hidden()
    screen.button("Disconnect").click()
    assert connection.closed.wait(5)
    assert connection.keys.empty()
    assert connection.pointers.empty()


# --- in a frame ----------------------------------------------------------------------------


def test_a_dashboard_that_may_frames_it_and_everything_works(new_fake, new_screen, dashboard):
    fake = new_fake(frame_ancestors=dashboard.origin)
    screen = new_screen(dashboard.frame(f"{fake.url}?token={TOKEN}&title=web-1"))
    screen.enter_frame()
    connection = fake.next_connection()
    screen.wait_until("connected")
    screen.wait_for_picture()
    screen.find("#stage").click()
    screen.page.keyboard.type("a")
    assert connection.next_keys(2) == pressed(ord("a"))
    screen.open_bar()
    # The dashboard's frame does not grant it.
    expect(screen.button("Full screen")).to_be_hidden()
    screen.button("Ctrl-Alt-Del").click()
    assert connection.next_keys(10)[4:] == pressed(CONTROL, ALT, DELETE)
    assert screen.complaints == []
    assert screen.violations() == []


def test_any_other_site_is_kept_from_framing_it(fake, new_screen, dashboard):
    screen = new_screen(dashboard.frame(f"{fake.url}?token={TOKEN}"))
    screen.wait_for_complaint("frame-ancestors")
    assert screen.page.frame_locator("iframe").locator("#stage").count() == 0
    assert fake.connections.empty()
