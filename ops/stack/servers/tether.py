"""A script that becomes a command which the kernel kills when the thread that started it ends.

`python -I -S tether.py PARENT_PID COMMAND...`: prctl(2), PR_SET_PDEATHSIG, is kept by exec.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(parent_pid: int, command: list[str]) -> None:
    """Never returns. Raises OSError if prctl or exec is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent_pid:  # the parent died before prctl: the signal would never come
        sys.exit(f"process {parent_pid} is gone; not starting {command[0]}")
    os.execv(command[0], command)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
