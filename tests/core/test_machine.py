"""Cores and memory, against control groups of both versions written by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farstep.core import machine


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores and 10 MB, without control groups so far."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, place in (("MEMBERSHIP", "cgroup"), ("MEMORY", "meminfo"), ("CONTROL_GROUPS", "fs")):
        monkeypatch.setattr(machine, name, tmp_path / place)
    (tmp_path / "meminfo").write_text("MemTotal: 20000 kB\nMemAvailable:   10000 kB\n")
    return tmp_path


def write(group: Path, **files: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_all_is_available(groups: Path) -> None:
    assert machine.available_cores() == 8
    assert machine.available_memory() == 10_240_000
    write(groups / "fs", cpu__max="max 100000", memory__max="max", memory__current="5")
    assert machine.available_cores() == 8
    assert machine.available_memory() == 10_240_000


def test_limits_of_version_2_hold_from_any_group_around(groups: Path) -> None:
    (groups / "cgroup").write_text("0::/user/job\n")
    write(groups / "fs" / "user" / "job", cpu__max="400000 100000", memory__max="5000")
    write(groups / "fs" / "user" / "job", memory__current="3000")
    stat = "anon 900\nactive_file 300\ninactive_file 200"
    write(groups / "fs" / "user" / "job", memory__stat=stat)
    assert (machine.available_cores(), machine.available_memory()) == (4, 2500)
    write(groups / "fs" / "user", cpu__max="150000 100000", memory__max="4000")
    write(groups / "fs" / "user", memory__current="5000", memory__stat=stat)
    assert (machine.available_cores(), machine.available_memory()) == (1.5, 0)
    assert machine.processes() == 1


def test_limits_of_version_1(groups: Path) -> None:
    (groups / "cgroup").write_text("4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n")
    write(groups / "fs" / "cpu", **{"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"})
    assert machine.available_cores() == 8
    write(groups / "fs" / "cpu", **{"cpu__cfs_quota_us": "50000"})
    memory = {"memory__limit_in_bytes": "3000", "memory__usage_in_bytes": "1000"}
    write(groups / "fs" / "memory", **memory, memory__stat="total_inactive_file 500")
    assert (machine.available_cores(), machine.available_memory()) == (0.5, 2500)
    assert machine.processes() == 1


def test_this_machine_has_some() -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine.available_memory() <= total
    assert machine.available_cores() > 0
