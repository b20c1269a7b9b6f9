"""A secret is read only from where nobody else could have put or read it."""

from __future__ import annotations

import os

import pytest

from mksfilter import config
from mksfilter.exceptions import ConfigurationError
from mksfilter.private_files import place_of
from tests.support.volume import Volume

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "volume", {"password": "s3cret\n"})


def password(path):
    file = path.parent.parent / "mksfilter.conf"
    file.write_text(
        "[mksfilter]\nvcenters = dc1\n[vcenter.dc1]\nhost = h\nusername = u\n"
        f"password_file = {path}\n"
    )
    (settings,) = config.vcenter_settings(config.load([str(file)]))
    return settings.password


def test_an_ordinary_directory_is_itself(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    place = place_of(str(tmp_path / "link"))
    assert (place.path, place.volume, place.fault) == (str(tmp_path / "link"), False, "")


def test_a_volume_is_where_its_link_leads(volume):
    place = place_of(str(volume.path))
    assert (place.path, place.volume, place.fault) == (str(volume.dated), True, "")


def test_a_directory_inside_a_volume_is_in_its_current_data(tmp_path):
    volume = Volume(tmp_path / "volume", {"keys/1": "x", "keys/0": "y"})
    place = place_of(str(volume.path / "keys"))
    assert (place.path, place.volume, place.fault) == (str(volume.dated / "keys"), True, "")


def test_a_relative_path_is_understood(volume, monkeypatch):
    monkeypatch.chdir(volume.path)
    assert place_of(".").volume


@pytest.mark.parametrize("target", ["/etc", "../other", "..", "..data", "data"])
def test_a_link_out_of_the_volume_is_refused(volume, target):
    link = volume.path / "..data"
    link.unlink()
    link.symlink_to(target)
    assert "leads out of its volume" in place_of(str(volume.path)).fault


@pytest.mark.parametrize(
    ("mode", "remedy"), [(0o777, r"chmod \+t"), (0o1777, None), (0o3777, None), (0o755, None)]
)
def test_an_open_directory_needs_the_sticky_bit(volume, mode, remedy):
    volume.path.chmod(mode)
    fault = place_of(str(volume.path)).fault
    assert (remedy is None) == (fault == "")


def test_current_data_that_others_may_change_is_refused(volume):
    volume.dated.chmod(0o775)
    assert f"{volume.dated} is open to others (mode 0775)" in place_of(str(volume.path)).fault


@root_only
@pytest.mark.parametrize("what", [".", "..data", "dated"])
def test_parts_of_a_volume_that_belong_to_others_are_refused(volume, what):
    path = volume.dated if what == "dated" else volume.path / what
    os.chown(path, 12345, 0, follow_symlinks=False)
    assert "belongs to 12345, who could replace it" in place_of(str(volume.path)).fault


class TestPasswordFile:
    def test_in_a_volume_may_be_read_by_the_pods_group(self, volume):
        assert password(volume.path / "password") == "s3cret"

    def test_that_everybody_may_read_is_refused(self, volume):
        (volume.dated / "password").chmod(0o444)
        with pytest.raises(ConfigurationError, match=r"0444.*defaultMode: 0440") as caught:
            password(volume.path / "password")
        assert str(caught.value).startswith("[vcenter.dc1] password_file ")

    def test_outside_a_volume_is_its_readers_alone(self, tmp_path):
        path = tmp_path / "secrets" / "password"
        path.parent.mkdir()
        path.write_text("s3cret")
        path.chmod(0o440)
        with pytest.raises(ConfigurationError, match=r"mode 0440.*chmod 0600"):
            password(path)
        path.chmod(0o600)
        assert password(path) == "s3cret"

    def test_that_is_no_text_is_told_without_it(self, tmp_path):
        path = tmp_path / "secrets" / "password"
        path.parent.mkdir()
        path.write_bytes(b"\xff\xfes3cret")
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match="not UTF-8") as caught:
            password(path)
        assert caught.value.__cause__ is None
