"""The three services: how each is started, and where each listens."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.stack import StackError
from ops.stack.servers.ports import LOOPBACK, free_port
from tidemark.settings import Address, address


@dataclass(frozen=True)
class Service:
    """The command of one service; `binds`: the variables with its addresses, the admin port's last."""

    name: str
    module: Sequence[str]
    binds: Sequence[str]


SERVICES = (
    Service("projector", ("binlog_projector", "run"), ("TIDEMARK_PROJECTOR_ADMIN_BIND",)),
    Service("writer", ("writer", "serve"), ("TIDEMARK_WRITER_BIND", "TIDEMARK_WRITER_ADMIN_BIND")),
    Service("reader", ("reader",), ("TIDEMARK_READER_BIND", "TIDEMARK_READER_ADMIN_BIND")),
)


class AddressRefused(StackError):
    """A service cannot listen on the address in the environment."""


def given_addresses(environ: Mapping[str, str]) -> dict[str, Address]:
    """Variable -> the address in the environment. Raises AddressRefused if it cannot be used."""
    wanted = {
        bind: (service.name, environ[bind])
        for service in SERVICES
        for bind in service.binds
        if environ.get(bind)
    }
    return {bind: _usable(name, bind, text) for bind, (name, text) in wanted.items()}


def with_free_ports(given: Mapping[str, Address]) -> dict[str, Address]:
    """All addresses: those given, and a free loopback port for each missing one."""
    missing = [bind for service in SERVICES for bind in service.binds if bind not in given]
    taken = {where.port for where in given.values()}
    ports: set[int] = set()
    while len(ports) < len(missing):
        ports |= {free_port()} - taken
    return {**given, **{bind: Address(LOOPBACK, port) for bind, port in zip(missing, ports, strict=True)}}


def _usable(name: str, bind: str, text: str) -> Address:
    try:
        where = address(text)
        socket.create_server((where.host, where.port)).close()
    except (ValueError, OSError) as error:
        reason = str(error).partition(" (while attempting")[0]  # create_server repeats the address
        raise AddressRefused(
            f"{name} cannot listen on {text}: {reason}; change {bind} or free that address"
        ) from error
    return where
