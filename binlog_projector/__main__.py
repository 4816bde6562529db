"""`python -m binlog_projector run|status|check|rebuild|audit`: the projector, its state, and its repairs."""

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
from typing import Any

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
from binlog_projector.leading.lease import Standby, is_gone
from binlog_projector.leading.projector import Projector
from binlog_projector.leading.rebuild import Rebuild
from binlog_projector.metrics import ProjectorMetrics
from binlog_projector.mysql.checks import check_source
from binlog_projector.mysql.connections import query_row
from binlog_projector.mysql.failover import Servers
from binlog_projector.settings import AuditSettings, ProjectorSettings
from binlog_projector.stores import cache, mongodb
from binlog_projector.stores.cache_checks import check_cache, may_publish
from binlog_projector.stores.control_store import ControlStore
from binlog_projector.stores.document_store import DocumentStore
from reader.read_model.control import BUILDING_ID
from tidemark.admin import AddressUnavailable, AdminThread, admin_app
from tidemark.gtid import GtidSet
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
    cache_client: cache.Client
    health: Health = field(default_factory=lambda: Health(ProjectorMetrics()))
    chance: random.Random = field(default_factory=random.Random)
    stopping: threading.Event = field(default_factory=threading.Event)

    def open_cache(self, documents: DocumentStore) -> cache.CacheStage:
        return cache.CacheStage(self.cache_client, documents, self.health.metrics, self.chance)

    def projector(self, settings: ProjectorSettings, rebuild_if_lost: bool) -> Projector:
        return Projector(
            self.servers,
            self.control,
            self.open_cache,
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
        return Rebuild(servers, self.control, self.building, self.open_cache, self.chance, self.stopping)


@contextlib.contextmanager
def _opened(settings: ProjectorSettings) -> Iterator[Opened]:
    with mongodb.connect(settings.mongodb_url) as client, cache.connect(settings.redis_url) as cache_client:
        opened = Opened(
            _servers(settings),
            ControlStore(client, settings.journal_hours),
            ControlStore(client, settings.journal_hours, BUILDING_ID),
            cache_client,
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
    """Show the position of each stage; exit status 1 if nobody leads."""
    with mongodb.connect(settings.mongodb_url) as client, cache.connect(settings.redis_url) as cache_client:
        found = _status(settings, ControlStore(client, settings.journal_hours), cache_client)
    _print(found, options.json, [f"{name:18} {value}" for name, value in found.items()])
    return 0 if found["leader"] else 1


def _status(settings: ProjectorSettings, control: ControlStore, cache_client: cache.Client) -> dict[str, Any]:
    lease, position = control.lease.read(), control.position()
    watermark = cache.read_watermark(cache_client)
    with contextlib.closing(_servers(settings).connect()) as connection:
        executed = GtidSet.parse(query_row(connection, "SELECT @@global.gtid_executed")[0])
    checkpoint = position.checkpoint if position else None
    return {
        "leader": lease is not None and not lease.released and not is_gone(lease.holder),
        "holder": f"{lease.holder['host']}:{lease.holder['pid']}" if lease else None,
        "epoch": lease.epoch if lease else None,
        "build": checkpoint.build if checkpoint else None,
        "seq": checkpoint.seq if checkpoint else None,
        "as_of": checkpoint.as_of if checkpoint else None,
        "gtid_set": checkpoint.gtid_set if checkpoint else None,
        "caught_up": checkpoint is not None and GtidSet.parse(checkpoint.gtid_set) >= executed,
        "missing": str(executed - GtidSet.parse(checkpoint.gtid_set)) if checkpoint else str(executed),
        "rows_of": position.rows_of if position else {},
        "cache_epoch": watermark.epoch if watermark else None,
        "cache_seq": watermark.seq if watermark else None,
        "cache_as_of": watermark.as_of if watermark else None,
        "cache_cluster_time": watermark.cluster_time if watermark else None,
        "announces": may_publish(cache_client),
    }


def check(settings: ProjectorSettings, options: argparse.Namespace) -> int:
    """Run every start check; exit status 1 if one failed."""
    sources = _servers(settings).sources
    checks = [each for source in sources for each in check_source(source, settings.retention_hours)]
    with mongodb.connect(settings.mongodb_url) as client, cache.connect(settings.redis_url) as cache_client:
        checks += [mongodb.check_replica_set(client), *mongodb.check_history(client)]
        checks += check_cache(cache_client)
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
    parser = argparse.ArgumentParser(prog="python -m binlog_projector", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    commands = parser.add_subparsers(dest="command", required=True)
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
    except (SettingError, ProjectorError, AddressUnavailable) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
