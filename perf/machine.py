"""The conditions of a result: processor, memory, versions, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from ops.child import ROOT
from ops.stack.fetch import programs
from ops.stack.fetch.jmeter import jmeter

PACKAGES = ("starlette", "uvicorn", "uvloop", "pymysql", "asyncmy", "pymongo", "redis", "mysql-replication")


def machine() -> dict[str, str]:
    """Name -> value, for people."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores of {model[1] if model else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Program or package -> version."""
    said = {
        "MySQL": programs.mysqld().version,
        "MongoDB": programs.mongod().version,
        "Redis": programs.redis_server().version,
        "wrk": programs.wrk().version,
    }
    numbers = {
        name: found[0] if (found := re.search(r"\d+\.\d+[.\d]*", text)) else text
        for name, text in said.items()
    }
    return {
        **numbers,
        "JMeter": jmeter().version.removeprefix("Apache JMeter "),
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def commit() -> str:
    """The commit, and whether the code differs from it; empty outside of git."""
    described = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    done = subprocess.run([*described, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*described, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() + (" and changes" if changed.stdout.strip() else "")
