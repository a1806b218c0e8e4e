"""How much of the machine this process may use: cores and main memory, within its container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")


def available_cores() -> float:
    """Cores that this process may keep busy: those it may run on, or fewer by a quota of time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shares = [float(cores or 1)]
    for group in _control_groups("cpu"):
        # Version 2 has one file, version 1 two; "max" and -1 mean no limit.
        words = _read(group / "cpu.max").split() or [
            _read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]
        if all(word.isdecimal() for word in words):
            shares.append(int(words[0]) / int(words[1]))
    return min(shares)


def processes() -> int:
    """How many processes can compute at once: a whole number of cores, at least 1."""
    return max(1, int(available_cores()))


def available_memory() -> int:
    """Bytes of main memory that can be had without swapping, within the limits of control groups.

    What the kernel keeps of files counts as available: it is given up on demand.
    """
    system = _counts(MEMORY)
    if "MemAvailable:" in system:
        available = 1024 * system["MemAvailable:"]
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for group in _control_groups("memory"):
        for limit, used, prefix in (
            ("memory.max", "memory.current", ""),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        ):
            words = [_read(group / name).strip() for name in (limit, used)]
            if all(word.isdecimal() for word in words):
                counts = _counts(group / "memory.stat")
                files = sum(counts.get(f"{prefix}{kind}active_file", 0) for kind in ("", "in"))
                available = min(available, max(0, int(words[0]) - int(words[1]) + files))
    return available


def _control_groups(controller: str) -> Iterator[Path]:
    """Directories of the control group of this process and of all groups around it.

    A container may see its own group as the root, while the path still names the host's; then the
    directories of that path do not exist, and hold no limits.
    """
    for line in _read(MEMBERSHIP).splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CONTROL_GROUPS / controller if controllers else CONTROL_GROUPS
        group = root / path.lstrip("/")
        yield from (group, *(above for above in group.parents if above.is_relative_to(root)))


def _counts(path: Path) -> dict[str, int]:
    """Numbers by the word before them, a line each."""
    lines = [line.split() for line in _read(path).splitlines()]
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
