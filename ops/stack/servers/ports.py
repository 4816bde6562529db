"""Loopback ports for servers."""

import itertools
import secrets
import socket
from pathlib import Path

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


def free_port() -> int:
    """A free port below the kernel's range for outgoing connections, and a new one for each call.

    So no connection takes the port while its server restarts, and no other caller gets it before the server
    listens.
    """
    first_ephemeral = int(EPHEMERAL_RANGE.read_text().split()[0])
    if first_ephemeral <= FIRST_PORT:
        first_ephemeral = USUAL_FIRST_EPHEMERAL
    while True:
        port = FIRST_PORT + next(STEPS) % (first_ephemeral - FIRST_PORT)
        if is_free(port):
            return port
