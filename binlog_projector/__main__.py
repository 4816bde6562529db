"""Tidemark's projector: it runs, says its state, and makes the read model anew or right."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tidemark.logs import Event, configure, log_settings  # first: it decides what structlog imports

# isort: split
import structlog

from binlog_projector.audit import command as audit_command
from binlog_projector.console.routes import console_routes
from binlog_projector.console.vital_signs import VitalSigns
from binlog_projector.errors import ProjectorError, Stop
from binlog_projector.findings import Finding
from binlog_projector.leading.health import Health
from binlog_projector.leading.housekeeping import Housekeeping
from binlog_projector.leading.lease import Standby
from binlog_projector.leading.projector import Projector
from binlog_projector.leading.rebuild import Rebuild
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mysql.failover import Servers
from binlog_projector.settings import AuditSettings, ProjectorSettings
from binlog_projector.status import asking
from binlog_projector.status import command as status_command
from binlog_projector.status.check import findings
from binlog_projector.status.verdict import verdict
from binlog_projector.stores import mongodb
from binlog_projector.stores.cache_topology import CacheTopology
from binlog_projector.stores.control_store import ControlStore
from reader.read_model.control import BUILDING_ID
from tidemark import command_line
from tidemark.admin import AddressUnavailable, AdminThread, admin_app
from tidemark.command_line import end_with, fail
from tidemark.redis_url import RedisUrl
from tidemark.settings import SettingError, effective, load

TROUBLES: deque[Event] = deque(maxlen=20)  # the last warnings, for the console
SWITCH_SECONDS = 0.0005  # the default, 5 ms, would delay every answer of MongoDB while the binlog is decoded
log = structlog.get_logger()


def run(settings: ProjectorSettings, options: argparse.Namespace) -> int:
    """Project until SIGTERM or SIGINT; then finish the current batch. Exit status 1: an operator must act."""
    log_settings(effective(settings))
    sys.setswitchinterval(SWITCH_SECONDS)
    with _opened(settings) as opened:
        projector, health = opened.projector(settings, options.rebuild_if_lost), opened.health
        signs = VitalSigns(health, settings.console_admin_urls, TROUBLES)
        admin = admin_app(health.metrics.registry, health.ready, console_routes(signs))
        with AdminThread(admin, settings.admin_bind), signs:
            return _run_until_stopped(projector)


def rebuild(settings: ProjectorSettings, options: argparse.Namespace) -> int:
    """Make a new read model from MySQL and switch to it; readers use the old one meanwhile."""
    with _opened(settings) as opened:
        for finding in mongodb.check_history(opened.control.client):
            if not finding.ok:
                log.warning("check failed", check=str(finding))
        build = opened.rebuild(settings).run(
            Standby(opened.control.lease, asks=True).leadership(opened.stopping)
        )
    if build is None:
        print("interrupted: nothing has changed", file=sys.stderr)
        return 1
    _print({"build": build}, options.json, [f"build {build} serves"])
    return 0


@dataclass(frozen=True)
class Opened:
    """Clients of all three stores, and the event that stops the command."""

    servers: Servers
    control: ControlStore
    building: ControlStore
    redis_url: RedisUrl
    health: Health = field(default_factory=lambda: Health(ProjectorMetrics()))
    chance: random.Random = field(default_factory=random.Random)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def topology(self) -> CacheTopology:
        return CacheTopology(self.redis_url, self.health.metrics, self.chance)

    def projector(self, settings: ProjectorSettings, rebuild_if_lost: bool) -> Projector:
        return Projector(
            self.servers,
            self.control,
            self.topology,
            Housekeeping(self.building, settings.former_build_minutes * 60),
            self.health,
            self.chance,
            self.stopping,
            settings.commit_interval_ms / 1000,
            self.rebuild(settings) if rebuild_if_lost else None,
        )

    def rebuild(self, settings: ProjectorSettings) -> Rebuild:
        """A rebuild, with another server id than the projector, which may be connected."""
        servers = Servers.of(settings.mysql_url, settings.server_id + 1, settings.retention_hours)
        return Rebuild(servers, self.control, self.building, self.topology, self.chance, self.stopping)


@contextlib.contextmanager
def _opened(settings: ProjectorSettings) -> Iterator[Opened]:
    with mongodb.connect(settings.mongodb_url) as client:
        shards = settings.redis_url.shards
        opened = Opened(
            _servers(settings),
            ControlStore(client, settings.journal_hours, shards=shards),
            ControlStore(client, settings.journal_hours, BUILDING_ID, shards=shards),
            settings.redis_url,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: opened.stopping.set())
        yield opened


def _servers(settings: ProjectorSettings) -> Servers:
    return Servers.of(settings.mysql_url, settings.server_id, settings.retention_hours)


def _run_until_stopped(projector: Projector) -> int:
    try:
        projector.run()
    except Stop as error:
        log.error("stopped", kind=type(error).__name__, reason=str(error))
        return 1
    log.info("drained")
    return 0


def status(settings: ProjectorSettings, options: argparse.Namespace) -> int:
    """Say where the projector and each store are; exit status 1 if a person has something to do."""
    found = asking.look(settings)
    _print(status_command.as_json(found), options.json, [*status_command.lines(found)])
    return 0 if verdict(found).ok else 1


def check(settings: ProjectorSettings, options: argparse.Namespace) -> int:
    """Run every start check, and look whether MySQL can continue; exit status 1 if one failed."""
    checks = [*findings(settings)]
    ok = all(one.ok for one in checks)
    _print(
        {"ok": ok, "checks": [one.as_json() for one in checks]}, options.json, [_line(one) for one in checks]
    )
    return 0 if ok else 1


def _line(one: Finding) -> str:
    return f"ok      {one.name}: {one.found}" if one.ok else f"FAILED  {one}"


def _print(document: dict[str, Any], as_json: bool, lines: Sequence[str]) -> None:
    print(json.dumps(document) if as_json else "\n".join(lines))


COMMANDS = {"run": run, "status": status, "check": check, "rebuild": rebuild}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line.parser("binlog_projector", __doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        added = commands.add_parser(name, help=(command.__doc__ or "").split(";")[0])
        added.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object"
        )
        if command is run:
            added.add_argument(
                "--rebuild-if-lost",
                action="store_true",
                help="without asking, make a new read model if MySQL cannot continue from the position",
            )
    audit_command.add_to(commands)
    options = parser.parse_args(arguments)
    configure("projector", troubles=TROUBLES)
    try:
        if options.command == "audit":
            return audit_command.run(load(AuditSettings, os.environ), options)
        return COMMANDS[options.command](load(ProjectorSettings, os.environ), options)
    except (SettingError, AddressUnavailable) as error:
        return fail("binlog_projector", 2, error)
    except ProjectorError as error:
        return fail("binlog_projector", 2, f"{type(error).__name__}: {error}")


def command() -> NoReturn:
    """The installed command."""
    end_with(main)


if __name__ == "__main__":
    command()
