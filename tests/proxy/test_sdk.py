"""What is taken of the directory that ``wmks_dir`` names, and what is refused in one line."""

from __future__ import annotations

import pytest

from mksfilter.exceptions import ConfigurationError
from mksfilter.proxy import sdk


@pytest.fixture
def directory(tmp_path):
    """As the SDK is unpacked, with the two libraries that its guide asks for beside it."""
    root = tmp_path / "sdk"
    for name in (
        "wmks.min.js",
        "jquery-3.7.1.min.js",
        "jquery-ui.min.js",
        "css/wmks-all.css",
        "css/trackpad.css",
        "img/touch_sprite.png",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_the_sdk_and_its_libraries_are_read_in_the_order_in_which_they_need_each_other(directory):
    found = sdk.read(str(directory))
    assert found.scripts == ("jquery-3.7.1.min.js", "jquery-ui.min.js", "wmks.min.js")
    assert found.styles == ("css/wmks-all.css",)
    assert found.files["img/touch_sprite.png"] == b"img/touch_sprite.png"
    assert len(found.files) == 6


def test_nothing_else_that_lies_there_is_taken(directory):
    for name in (
        ".htpasswd",
        "wmks.js",
        "password.txt",
        "jquery.min.js.bak",
        "css/.hidden.css",
        "css/secret.pem",
        "css/deeper/a.css",
        "img/a.svg",
        "doc/wmks.min.js",
    ):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("secret")
    assert b"secret" not in sdk.read(str(directory)).files.values()
    assert len(sdk.read(str(directory)).files) == 6


def test_a_link_that_leads_out_of_the_directory_is_refused(directory, tmp_path):
    (tmp_path / "key.pem").write_text("secret")
    (directory / "css" / "a.css").symlink_to(tmp_path / "key.pem")
    with pytest.raises(ConfigurationError, match=r"wmks_dir .*: css/a\.css leads out of it"):
        sdk.read(str(directory))


def test_a_directory_that_is_a_link_itself_is_as_good(directory, tmp_path):
    (tmp_path / "current").symlink_to(directory)
    assert len(sdk.read(str(tmp_path / "current")).files) == 6


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("wmks.min.js", r"lacks wmks\.min\.js: put VMware's HTML Console SDK there"),
        ("jquery-3.7.1.min.js", r"lacks jQuery \(jquery\.min\.js\), which the SDK needs"),
        ("jquery-ui.min.js", r"lacks jQuery UI \(jquery-ui\.min\.js\), which the SDK needs"),
    ],
)
def test_what_the_sdk_cannot_do_without_is_named(directory, missing, words):
    (directory / missing).unlink()
    with pytest.raises(ConfigurationError, match=f"wmks_dir {directory} {words}"):
        sdk.read(str(directory))


def test_of_two_jquerys_nobody_knows_which(directory):
    (directory / "jquery.min.js").write_text("")
    with pytest.raises(ConfigurationError, match=r"twice: jquery-3\.7\.1\.min\.js and jquery"):
        sdk.read(str(directory))


def test_a_directory_that_cannot_be_read_is_told_with_the_reason(directory, tmp_path):
    with pytest.raises(ConfigurationError, match=r"wmks_dir .*/none: No such file or directory"):
        sdk.read(str(tmp_path / "none"))
    (directory / "wmks.min.js").unlink()
    (directory / "wmks.min.js").mkdir()
    with pytest.raises(ConfigurationError, match=r"wmks_dir .*/wmks\.min\.js: Is a directory"):
        sdk.read(str(directory))


def test_without_a_directory_there_is_no_such_client(directory):
    with pytest.raises(ConfigurationError, match="console_client = wmks needs wmks_dir"):
        sdk.configured("wmks", "")
    assert sdk.configured("novnc", str(directory)) is None
    assert sdk.configured("wmks", str(directory)) is not None
