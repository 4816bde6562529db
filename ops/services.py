"""The three services and the page: how each is started, and where each listens."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from ops.stack import StackError
from ops.stack.servers.ports import LOOPBACK, steady_port
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

SHORE = Service("shore", (), ("TIDEMARK_SHORE_BIND",))  # the page of make run, a thread and no process
ADDRESSED = (*SERVICES, SHORE)


class AddressRefused(StackError):
    """A service cannot listen on the address in the environment."""


def given_addresses(environ: Mapping[str, str]) -> dict[str, Address]:
    """Variable -> the address in the environment. Raises AddressRefused if it cannot be used."""
    wanted = {
        bind: (service.name, environ[bind])
        for service in ADDRESSED
        for bind in service.binds
        if environ.get(bind)
    }
    return {bind: _usable(name, bind, text) for bind, (name, text) in wanted.items()}


def with_steady_ports(given: Mapping[str, Address], ports: dict[str, int]) -> dict[str, Address]:
    """All addresses: those given, else loopback with the port in `ports`, where new ports are added."""
    taken = {where.port for where in given.values()}
    missing = {bind: each.name for each in ADDRESSED for bind in each.binds if bind not in given}
    ports |= {bind: steady_port(name, ports.get(bind), taken) for bind, name in missing.items()}
    return {**given, **{bind: Address(LOOPBACK, ports[bind]) for bind in missing}}


def _usable(name: str, bind: str, text: str) -> Address:
    try:
        where = address(text)
        with socket.create_server((where.host, where.port)) as server:
            if bind in SHORE.binds and not ip_address(server.getsockname()[0]).is_loopback:
                raise ValueError("whoever reaches it gets tokens, so it has to be one of the loopback")
    except (ValueError, OSError) as error:
        reason = str(error).partition(" (while attempting")[0]  # create_server repeats the address
        raise AddressRefused(
            f"{name} cannot listen on {text}: {reason}; change {bind} or free that address"
        ) from error
    return where
