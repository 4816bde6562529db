"""Pages and code agree: settings, metrics, commands, links. No file names the machine it was made on."""

from __future__ import annotations

import configparser
import dataclasses
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client import Counter, Gauge, Histogram

import writer.metrics
from binlog_projector import errors as projector_errors
from binlog_projector.metrics import AuditMetrics, ProjectorMetrics
from ops.stack.servers.process import FOLDER_MARK
from ops.stack.servers.server import NO_SERVERS
from ops.stack.state import STORES
from reader.metrics import ReaderMetrics
from reader.parts import Origin
from tests.support.harness import ROOT
from tidemark.settings import variables
from tidemark.tally import HistogramTally, Tally

Instrument = Counter | Gauge | Histogram | Tally | HistogramTally
CODE = sorted(each.parent.name for each in ROOT.glob("*/__init__.py") if each.parent.name != "tests")
CONFIGURATION, METRICS = "docs/configuration.md", "docs/metrics.md"
OPTIONAL_OF_STACK = {
    "TIDEMARK_CACHE_DIR",
    "TIDEMARK_SHORE_BIND",
    NO_SERVERS,
    *(f"TIDEMARK_{store.upper()}_ADMIN_URL" for store in STORES),
}
READER, PROJECTOR, AUDIT = ReaderMetrics(), ProjectorMetrics(), AuditMetrics()
METRICS_OF: Mapping[str, object] = {
    "writer": writer.metrics,
    "reader": READER,
    "projector": PROJECTOR,
    "audit": AUDIT,
}
REGISTRIES = {
    "writer": writer.metrics.REGISTRY,
    "reader": READER.registry,
    "projector": PROJECTOR.registry,
    "audit": AUDIT.registry,
}

VARIABLE = re.compile(r"\bTIDEMARK_[A-Z_]*[A-Z]\b")
METRIC = re.compile(r"\btidemark_[a-z_]*[a-z]\b")
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
CODE_IN_PAGES = re.compile(r"`[^`\n]+`|^```.*?^```", re.DOTALL | re.MULTILINE)
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
MAKE = re.compile(r"\bmake ([a-z-]+)")
MODULE = re.compile(r"\bpython3? -m ([a-z_.]+)((?: --[a-z-]+ [^\s`]+)*)(?: ([a-z]+))?([^\n`|]*)")
FOLDER = re.compile(r"[a-z_]+/")
REGISTRY = re.compile(
    r"\b(?:pypi|pythonhosted|npmjs|debian|ubuntu|docker|ghcr|quay|maven)\.(?:org|com|net|io)\b"
)
MACHINE = re.compile(r"(?<![\w.])/(?:root|home|work|Users)/\w|\.\./shared\b")


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks, or would after `git add`."""
    options = ("-z", "--cached", "--others", "--exclude-standard")
    listing = ["git", "-c", f"safe.directory={ROOT}", "ls-files", *options, "--", *patterns]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(ROOT / name for name in names if name and (ROOT / name).is_file())


PAGES = tracked("*.md")
ALL_PAGES = "\n".join(page.read_text() for page in PAGES)


def rows(page: str, pattern: re.Pattern[str]) -> dict[str, Sequence[str]]:
    """The table rows of a page whose first cell is a name in backticks: name -> other cells, no backticks."""
    cells = [
        line.strip("|").split("|")
        for line in (ROOT / page).read_text().splitlines()
        if line.startswith("| `")
    ]
    plain = [[cell.strip().replace("`", "") for cell in row] for row in cells]
    found = [row for row in plain if pattern.fullmatch(row[0])]
    assert len({row[0] for row in found}) == len(found), f"{page} has a row twice"
    return {row[0]: row[1:] for row in found}


def listed(page: str, pattern: re.Pattern[str]) -> dict[str, tuple[str, str]]:
    """The items "- `NAME` (SERVICES; MORE): ..." of a page, without backticks: name -> services, more."""
    text = (ROOT / page).read_text().replace("\n  ", " ")
    items = re.findall(r"^- `([^`]+)` \(([^;)]+)(?:; ([^)]+))?\): ", text, re.MULTILINE)
    found = [
        (name, services, more.replace("`", "")) for name, services, more in items if pattern.fullmatch(name)
    ]
    assert len({name for name, *_ in found}) == len(found), f"{page} has an item twice"
    return {name: (services, more) for name, services, more in found}


def settings_classes() -> Iterator[type]:
    for package in CODE:
        if find_spec(f"{package}.settings"):
            module = importlib.import_module(f"{package}.settings")
            yield from (each for each in vars(module).values() if is_settings_class(each, module))


def is_settings_class(thing: object, module: ModuleType) -> bool:
    return isinstance(thing, type) and dataclasses.is_dataclass(thing) and thing.__module__ == module.__name__


def declared_variables() -> dict[str, str | None]:
    """Every variable that the code reads -> its default."""
    of_services = {name: default for each in settings_classes() for name, default in variables(each).items()}
    return {**of_services, **dict.fromkeys(OPTIONAL_OF_STACK)}


def exposed(service: str) -> set[str]:
    """The metrics that a service shows, apart from those of its process."""
    families = [family for family in REGISTRIES[service].collect() if METRIC.fullmatch(family.name)]
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def instruments(service: str) -> dict[str, Instrument]:
    """Metric -> instrument."""
    return {
        name_of(each): each for each in vars(METRICS_OF[service]).values() if isinstance(each, Instrument)
    }


def name_of(instrument: Instrument) -> str:
    if isinstance(instrument, Tally | HistogramTally):
        return instrument.name
    family = next(iter(instrument.describe()))
    return f"{family.name}_total" if family.type == "counter" else family.name


def test_documented_settings_and_defaults_are_those_of_the_code() -> None:
    documented, declared = listed(CONFIGURATION, VARIABLE), declared_variables()
    assert documented.keys() == declared.keys()
    for name, (_, default) in documented.items():
        if name not in OPTIONAL_OF_STACK:
            assert default == ("required" if declared[name] is None else declared[name]), name


def test_the_code_reads_no_variable_that_is_not_documented() -> None:
    documented = listed(CONFIGURATION, VARIABLE).keys()
    for path in tracked("Makefile", *(f"{package}/*.py" for package in CODE)):
        assert set(VARIABLE.findall(path.read_text())) - {FOLDER_MARK} <= documented, path
    assert set(VARIABLE.findall(ALL_PAGES)) <= documented


def test_documented_metrics_and_labels_are_those_of_the_services() -> None:
    documented = listed(METRICS, METRIC)
    assert documented.keys() == set().union(*map(exposed, REGISTRIES))
    for name, (services, labels) in documented.items():
        assert services.split(", ") == [service for service in REGISTRIES if name in exposed(service)], name
        for service in services.split(", "):
            assert_labels(instruments(service)[name], labels.split(", ") if labels else [])


def assert_labels(instrument: Instrument, labels: list[str]) -> None:
    """A Prometheus instrument refuses any labels but its own; one without labels refuses all."""
    if isinstance(instrument, Tally | HistogramTally):
        assert [*instrument.labels] == labels
    elif labels:
        instrument.labels(**dict.fromkeys(labels, "x"))
    else:
        with pytest.raises(ValueError, match="No label names were set"):
            instrument.labels("x")


def test_the_pages_name_no_metric_that_does_not_exist() -> None:
    assert set(METRIC.findall(ALL_PAGES)) <= listed(METRICS, METRIC).keys()


def test_every_cache_status_and_every_fatal_error_is_documented() -> None:
    design = (ROOT / "docs/design.md").read_text()
    assert re.findall(r"^\| `((?:local|redis); [^`]*)` \|", design, re.MULTILINE) == [
        origin.cache_status for origin in Origin
    ]
    section = design.partition("## When the projector stops")[2].partition("## ")[0]
    stops = {each.__name__ for each in projector_errors.Stop.__subclasses__()}
    assert sorted(re.findall(r"^- `(\w+)`: ", section, re.MULTILINE)) == sorted(stops)


def test_every_dependency_has_its_reason() -> None:
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    decisions = (ROOT / "docs/decisions.md").read_text()
    required = options["options"]["install_requires"] + options["options.extras_require"]["dev"]
    for requirement in required.split("\n"):
        name = re.split(r"\s*[<>=]", requirement)[0]
        assert not name or f"`{name}`" in decisions, name


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for code in CODE_IN_PAGES.findall(ALL_PAGES) for target in MAKE.findall(code)}
    assert {"demo", "test", "run"} <= named <= targets


def commands() -> dict[str, dict[str, set[str]]]:
    """Every `python -m MODULE OPTIONS COMMAND OPTIONS` in the pages: module -> command or "" -> options."""
    found: dict[str, dict[str, set[str]]] = {}
    for module, general, command, rest in MODULE.findall(ALL_PAGES):
        options_of = found.setdefault(module, {})
        options_of.setdefault("", set()).update(re.findall(r"--[a-z-]+", general))
        options_of.setdefault(command, set()).update(re.findall(r"--[a-z-]+", rest))
    return found


ASK_FOR_HELP = """
import contextlib, io, json, runpy, sys
module, *commands = sys.argv[1:]
said = {}
for command in commands:
    sys.argv = [module, *command.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            said[command] = [end.code, text.getvalue()]
print(json.dumps(said))
"""


@pytest.mark.parametrize(("module", "commands"), sorted(commands().items()))
def test_every_python_command_that_is_named_exists(module: str, commands: Mapping[str, set[str]]) -> None:
    """One process asks a module for the help of all its commands: the import takes longest."""
    assert find_spec(module)
    asked = [command for command, options in commands.items() if command or options]
    run = [sys.executable, "-c", ASK_FOR_HELP, module, *asked]
    said = json.loads(subprocess.check_output(run, cwd=ROOT, text=True)) if asked else {}
    for command in asked:
        status, text = said[command]
        assert status == 0, command
        assert all(option in text for option in commands[command]), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_leads_to_every_page_and_says_what_every_folder_is() -> None:
    pages = {str(page.relative_to(ROOT)) for page in PAGES if page.parent in (ROOT, ROOT / "docs")}
    assert pages - {"README.md", "docs/index.md"} <= set(LINK.findall((ROOT / "README.md").read_text()))
    folders = {f"{path.relative_to(ROOT).parts[0]}/" for path in tracked() if path.parent != ROOT}
    assert {name for name in folders if not name.startswith(".")} == rows("README.md", FOLDER).keys()


def anchors(page: Path) -> set[str]:
    """The names of a page's headings in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return set(map(heading_anchor, headings))


def heading_anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_no_file_names_a_registry_or_a_path_of_a_machine() -> None:
    for path in tracked():
        text = path.read_text(errors="replace")
        for pattern in (REGISTRY, MACHINE):
            assert not (found := pattern.search(text)), f"{path}: {found}"


def test_every_test_that_a_page_names_exists() -> None:
    there = {name for path in tracked("tests/*.py") for name in TEST.findall(path.read_text())}
    named = {name for code in CODE_IN_PAGES.findall(ALL_PAGES) for name in re.findall(r"\btest_\w+", code)}
    assert named - {path.stem for path in tracked("tests/*.py")} <= there
