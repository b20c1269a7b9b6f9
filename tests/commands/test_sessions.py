"""``mksfilter sessions`` as an operator types it."""

from __future__ import annotations

import contextlib
import json

import pytest

from mksfilter.auth.keys import KeyRepository
from mksfilter.auth.revocation import RevocationFile
from mksfilter.backends.resolver import Consoles
from mksfilter.cli import main
from mksfilter.simulator.client import DB_1, WEB_1
from tests.support.consoles import opened

NOBODY = "5f1c7e20-0000-4000-8000-00000000dead"


@pytest.fixture
def config_file(vsphere, tmp_path):
    ready = vsphere.vcenter
    file = tmp_path / "mksfilter.conf"
    KeyRepository(str(tmp_path / "keys")).setup()
    file.write_text(
        "[mksfilter]\n"
        f"key_repository = {tmp_path / 'keys'}\n"
        "vcenters = dc1\n"
        "[vcenter.dc1]\n"
        f"host = {ready['host']}\n"
        f"port = {ready['port']}\n"
        f"username = {ready['username']}\n"
        f"password = {ready['password']}\n"
        f"ca_file = {ready['ca_file']}\n"
    )
    return file


@pytest.fixture
def sessions(config_file, capsys):
    """Run ``mksfilter sessions ...`` with *config_file*: exit code, output, errors."""

    def run(*arguments):
        code = main(["sessions", *arguments, "--config-file", str(config_file)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def view(vsphere):
    """Opens a console and keeps it open: ``view(uuid)``."""
    with contextlib.ExitStack() as stack:
        consoles = stack.enter_context(contextlib.closing(Consoles([vsphere.vcenter_settings()])))

        def open_console(uuid):
            before = len(vsphere.connections(uuid))
            endpoint = consoles.connect(uuid)
            stack.enter_context(opened(endpoint))
            return vsphere.connections(uuid, count=before + 1)[-1]

        yield open_console


class TestList:
    def test_shows_the_live_consoles_of_the_instance_and_no_other(self, sessions, view, vsphere):
        view(DB_1)
        label = view(WEB_1)["label"]
        code, out, err = sessions("list", "--instance", WEB_1)
        head, line = out.splitlines()
        assert (code, err) == (0, "")
        assert head.split() == ["LABEL", "CLIENT", "USER"]
        assert line.split() == [label, "127.0.0.1", vsphere.vcenter["username"]]

    def test_is_empty_when_nobody_looks(self, sessions):
        code, out, err = sessions("list", "--instance", WEB_1)
        assert (code, len(out.splitlines()), err) == (0, 1, "")

    def test_can_be_read_by_a_program(self, sessions, view):
        label = view(WEB_1)["label"]
        code, out, _ = sessions("list", "--instance", WEB_1.upper(), "--json")
        answer = json.loads(out)
        assert (code, answer["instance"]) == (0, WEB_1)
        assert [one["label"] for one in answer["sessions"]] == [label]


class TestDrop:
    def test_ends_all_consoles_of_the_instance_and_no_other(self, sessions, view, vsphere):
        view(DB_1), view(WEB_1), view(WEB_1)
        code, out, err = sessions("drop", "--instance", WEB_1)
        assert (code, out, err) == (0, "2 consoles ended\n", "")
        assert vsphere.connections("web-1", count=0) == []
        assert len(vsphere.connections("db-1")) == 1

    def test_ends_the_one_with_the_label(self, sessions, view, vsphere):
        kept, ended = view(WEB_1), view(WEB_1)
        code, out, _ = sessions(
            "drop", "--instance", WEB_1, "--label", ended["label"], "--may-return"
        )
        assert (code, out) == (0, "1 console ended\n")
        assert vsphere.connections("web-1", count=1) == [kept]

    def test_tells_when_a_label_is_not_there(self, sessions, view, vsphere):
        view(WEB_1)
        code, out, err = sessions("drop", "--instance", WEB_1, "--label", "nobody", "--may-return")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "sessions list" in err
        assert len(vsphere.connections("web-1")) == 1

    def test_revokes_what_it_ends(self, sessions, tmp_path):
        assert sessions("drop", "--instance", WEB_1)[0] == 0
        (entry,) = RevocationFile(KeyRepository(str(tmp_path / "keys"))).load().entries
        assert (entry.kind, entry.value) == ("instance", WEB_1)

    def test_revokes_nothing_when_pages_may_return(self, sessions, tmp_path):
        assert sessions("drop", "--instance", WEB_1, "--may-return")[0] == 0
        assert len(RevocationFile(KeyRepository(str(tmp_path / "keys"))).load()) == 0

    def test_revokes_nothing_for_an_instance_that_is_not_there(self, sessions, tmp_path):
        assert sessions("drop", "--instance", NOBODY)[0] == 1
        assert len(RevocationFile(KeyRepository(str(tmp_path / "keys"))).load()) == 0

    def test_a_label_names_no_session_to_revoke(self, sessions):
        code, _, err = sessions("drop", "--instance", WEB_1, "--label", "x")
        assert code == 2
        assert "mksfilter revoke --session" in err

    def test_has_nothing_to_do_when_nobody_looks(self, sessions):
        assert sessions("drop", "--instance", WEB_1)[:2] == (0, "0 consoles ended\n")

    def test_can_be_read_by_a_program(self, sessions, view):
        view(WEB_1)
        _, out, _ = sessions("drop", "--instance", WEB_1, "--json")
        assert json.loads(out) == {"instance": WEB_1, "dropped": 1}


class TestError:
    @pytest.fixture(params=["list", "drop"])
    def failing(self, request, sessions):
        def run(*arguments):
            code, out, err = sessions(request.param, *arguments)
            assert out == ""
            assert err.startswith("mksfilter: ")
            assert err.count("\n") == 1
            return code, err

        return run

    def test_unknown_instance(self, failing):
        code, err = failing("--instance", NOBODY)
        assert code == 1
        assert NOBODY in err

    def test_vsphere_that_is_too_old(self, failing, vsphere):
        vsphere.set_vcenter(api_version="6.7")
        code, err = failing("--instance", WEB_1)
        assert code == 1
        assert "7.0.1" in err

    def test_no_permission_names_the_privilege(self, failing, vsphere):
        vsphere.set_vm("web-1", permitted=False)
        code, err = failing("--instance", WEB_1)
        assert code == 1
        assert "VirtualMachine.Interact.ConsoleInteract" in err

    def test_no_vcenter_configured(self, failing, config_file):
        config_file.write_text("[mksfilter]\n")
        code, err = failing("--instance", WEB_1)
        assert code == 2
        assert "vcenters" in err

    def test_hint_to_a_vcenter_that_is_not_configured(self, failing):
        code, err = failing("--instance", WEB_1, "--vcenter", "dc9")
        assert code == 2
        assert "dc9" in err

    def test_what_is_no_uuid(self, sessions, capsys):
        with pytest.raises(SystemExit) as stopped:
            sessions("list", "--instance", "web-1")
        assert stopped.value.code == 2
        assert "'web-1' is not a UUID" in capsys.readouterr().err
