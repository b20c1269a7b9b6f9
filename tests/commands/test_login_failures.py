"""Whatever an operator runs with a wrong password, vCenter sees two refused log-ins at most."""

from __future__ import annotations

from pathlib import Path

import pytest

from mksfilter.cli import main
from mksfilter.simulator.client import WEB_1, SimulatedVSphere
from tests.support.proxy import configuration


def test_all_commands_count_their_refused_log_ins_together(
    vsphere: SimulatedVSphere, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = vsphere.vcenter_settings(password="wr0ng")
    trail = tmp_path / "audit"
    trail.touch()
    path = configuration(tmp_path, [wrong], audit_file=trail)
    for number, arguments in enumerate(
        (
            ["check", "--connect", "--instance", WEB_1],
            ["audit", "reconcile"],
            ["sessions", "list", "--instance", WEB_1],
        )
        * 2
    ):
        # A password that is put right once more, and wrong again.
        (tmp_path / f"password-{wrong.name}").write_text(f"wr0ng-{number}")
        assert main([*arguments, "--config-file", str(path)]) != 0
    capsys.readouterr()
    assert vsphere.calls()["calls"]["Login"] == 2


def test_a_check_that_finds_all_well_logs_in_by_the_nodes_record(
    vsphere: SimulatedVSphere,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each of its log-ins is one that the record would have let through."""
    from mksfilter.backends.vsphere import session

    unshared = []
    made = session.Session.__init__

    def init(self: session.Session, *args: object, **options: object) -> None:
        made(self, *args, **options)  # type: ignore[arg-type]
        if not self._record.shared:
            unshared.append(self)

    monkeypatch.setattr(session.Session, "__init__", init)
    path = configuration(tmp_path, [vsphere.vcenter_settings()])
    main(["check", "--connect", "--instance", WEB_1, "--config-file", str(path)])
    assert "logged in as" in capsys.readouterr().err
    assert unshared == []
