"""What the processes of a node share."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mksfilter.backends.vsphere.shared_record import SharedRecord
from mksfilter.config import VCenterSettings

CONTEXT = multiprocessing.get_context("spawn")


def count(record: dict[str, Any]) -> None:
    record["count"] = record.get("count", 0) + 1


def count_often(path: str, times: int) -> None:
    record = SharedRecord(path)
    for _ in range(times):
        record.change(count)


def test_what_one_process_writes_another_one_reads(tmp_path: Path) -> None:
    path = str(tmp_path / "record")
    reader = SharedRecord(path)
    assert reader.read() == {}
    writer = CONTEXT.Process(target=count_often, args=(path, 1))
    writer.start()
    writer.join()
    assert reader.read() == {"count": 1}


def test_no_change_is_lost_among_several_processes(tmp_path: Path) -> None:
    path = str(tmp_path / "record")
    writers = [CONTEXT.Process(target=count_often, args=(path, 50)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert SharedRecord(path).read() == {"count": 150}


def hold(path: str, held: Any, done: Any) -> None:
    with SharedRecord(path).alone("login", 5) as alone:
        assert alone
        held.set()
        done.wait(20)


def test_one_process_keeps_the_others_out_and_a_dead_one_nobody(tmp_path: Path) -> None:
    path = str(tmp_path / "record")
    held, done = CONTEXT.Event(), CONTEXT.Event()
    holder = CONTEXT.Process(target=hold, args=(path, held, done))
    holder.start()
    assert held.wait(20)
    record = SharedRecord(path)
    with record.alone("login", 0.1) as alone:
        assert not alone
    with record.alone("record", 0.1) as alone:
        assert alone, "another purpose"
    holder.kill()
    holder.join()
    with record.alone("login", 5) as alone:
        assert alone


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    count_often(str(tmp_path / "record"), 1)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_file_that_is_damaged_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record"
    path.write_text(content)
    record = SharedRecord(str(path))
    assert record.read() == {}
    record.change(count)
    assert SharedRecord(str(path)).read() == {"count": 1}


def test_a_directory_that_is_gone_leaves_each_process_with_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = SharedRecord(str(tmp_path / "gone" / "record"))
    record.change(count)
    record.change(count)
    assert record.read() == {"count": 2}
    assert caplog.text.count("event=record-not-shared") == 1


def test_the_first_process_of_a_node_finds_nothing_and_has_nothing_to_complain_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = SharedRecord(str(tmp_path / "record"))
    assert record.read() == {}
    record.change(count)
    assert not caplog.records


def test_without_a_file_it_is_the_processs_own() -> None:
    record = SharedRecord()
    record.change(count)
    assert (record.read(), record.shared) == ({"count": 1}, False)


def test_groups_with_the_same_account_share_one(tmp_path: Path) -> None:
    def file_of(name: str, host: str, user: str) -> set[str]:
        settings = VCenterSettings(name, host, username=user)
        SharedRecord.of(settings, str(tmp_path)).change(count)
        return {entry for entry in os.listdir(tmp_path) if entry.endswith(".json")}

    assert len(file_of("dc1", "vc.example.com", "nova")) == 1
    assert len(file_of("dc1-again", "VC.example.com", "nova")) == 1
    assert len(file_of("dc1-other", "vc.example.com", "admin")) == 2
