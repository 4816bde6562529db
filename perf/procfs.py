"""Processor time and memory of a process, from proc(5)."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def peak_rss_mib(pid: int) -> float:
    """The peak of its memory; 0 once it has ended."""
    return round(_status_kib(pid, "VmHWM:") / 1024, 1)


def rss_kib(pid: int) -> int:
    """Its memory now; 0 once it has ended."""
    return _status_kib(pid, "VmRSS:")


def _status_kib(pid: int, name: str) -> int:
    """A line of proc_pid_status(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
