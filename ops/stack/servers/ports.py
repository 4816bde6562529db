"""Loopback ports for servers."""

import itertools
import secrets
import socket
from collections.abc import Collection
from pathlib import Path

from ops.stack.progress import say

LOOPBACK = "127.0.0.1"
FIRST_PORT = 10_000
USUAL_FIRST_EPHEMERAL = 32_768
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
STEPS = itertools.count(secrets.randbelow(USUAL_FIRST_EPHEMERAL))  # each process starts at another port


def is_free(port: int) -> bool:
    """Whether a server could listen on that port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(beside: int = 0) -> int:
    """A free port below the kernel's range for outgoing connections, and a new one for each call.

    So no connection takes the port while its server restarts, and no other caller gets it before the server
    listens. The port that lies higher by `beside` is free as well.
    """
    first_ephemeral = int(EPHEMERAL_RANGE.read_text().split()[0])
    if first_ephemeral <= FIRST_PORT:
        first_ephemeral = USUAL_FIRST_EPHEMERAL
    while True:
        port = FIRST_PORT + next(STEPS) % (first_ephemeral - FIRST_PORT - beside)
        if _are_free(port, beside):
            return port


def _are_free(port: int, beside: int) -> bool:
    return is_free(port) and is_free(port + beside)


def steady_port(name: str, remembered: int | None, others: Collection[int] = (), *, beside: int = 0) -> int:
    """The remembered port; if that is taken or one of `others`, a new one, and a line that says so.

    `beside`: as for `free_port`.
    """
    if remembered is not None and remembered not in others and _are_free(remembered, beside):
        return remembered
    port = next(port for port in iter(lambda: free_port(beside), None) if port not in others)
    if remembered is not None:
        say(f"{name} has a new port, {port}: another process listens on {remembered}")
    return port
