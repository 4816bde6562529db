"""A release: sdist and wheel that anybody can build again byte for byte, and a list of what they bring.

`build` makes both from the last commit, in build/dist. `all` also installs the wheel into a bare virtual
environment, runs the demo from there in an empty folder, and lists that environment: an SBOM (CycloneDX) and
a line with the licence of each package. `vulnerabilities` asks the package index about each of them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from ops.stack import StackError
from tidemark import command_line
from tidemark.command_line import end_with, fail

ROOT = Path(__file__).parent.parent
DIST = ROOT / "build" / "dist"
SERVICES = ("projector", "writer", "reader", "authorizer")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="tidemark-release-") as folder:
            _release(options.command, Path(folder))
    except (StackError, subprocess.CalledProcessError) as error:
        return fail("ops.release", 1, error)
    for one in sorted(DIST.iterdir()):
        print(f"{digest(one)}  {one.relative_to(ROOT)}")
    return 0


def _release(command: str, folder: Path) -> None:
    made, again = build(folder / "source", DIST), build(folder / "second", folder / "again")
    if [digest(one) for one in made] != [digest(one) for one in again]:
        raise StackError("two builds of one commit differ")
    if command == "build":
        return
    venv = installed(made[1], folder / "venv")
    if command == "vulnerabilities":
        packages = str(_packages(venv))
        run(sys.executable, "-m", "pip_audit", "--path", packages, "--strict", "--skip-editable")
        return
    empty = folder / "empty"
    empty.mkdir()
    for service in SERVICES:
        print(
            f"tidemark-{service}",
            run(str(venv / "bin" / f"tidemark-{service}"), "--version").decode().strip(),
        )
    print(run(str(venv / "bin" / "python"), "-m", "ops.demo", folder=empty).decode(), end="")
    bill = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(DIST / "sbom.cdx.json")]
    run(sys.executable, "-m", "cyclonedx_py", "environment", *bill, str(venv / "bin" / "python"))
    (DIST / "licences.txt").write_text(licences(venv))


def build(source: Path, into: Path) -> tuple[Path, Path]:
    """The sdist and the wheel of the last commit, made in `source`. All times in them are the commit's."""
    source.mkdir()
    with tarfile.open(fileobj=io.BytesIO(run("git", "archive", "HEAD", folder=ROOT))) as files:
        files.extractall(source, filter="data")
    epoch = int(run("git", "log", "-1", "--format=%ct", folder=ROOT))
    into.mkdir(parents=True, exist_ok=True)
    for former in into.iterdir():
        former.unlink()
    run(sys.executable, "-m", "build", "--outdir", str(into), str(source), SOURCE_DATE_EPOCH=str(epoch))
    (sdist,), (wheel,) = into.glob("*.tar.gz"), into.glob("*.whl")
    sdist.write_bytes(steady(sdist.read_bytes(), epoch))
    return sdist, wheel


def steady(sdist: bytes, epoch: int) -> bytes:
    """The same files, in order, without the builder's times and account, which setuptools puts in."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as found,
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=epoch, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for member in sorted(found.getmembers(), key=lambda one: one.name):
            content = found.extractfile(member) if member.isfile() else None
            executable = member.isdir() or member.mode & 0o100
            member.mtime, member.mode = epoch, 0o755 if executable else 0o644
            member.uid, member.gid, member.uname, member.gname = 0, 0, "", ""
            member.pax_headers = {}
            made.addfile(member, content)
    return packed.getvalue()


def installed(wheel: Path, venv: Path) -> Path:
    """A bare virtual environment with the wheel and what it needs."""
    run(sys.executable, "-m", "venv", str(venv))
    run(str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", str(wheel))
    return venv


def licences(venv: Path) -> str:
    """A line for each package: name, version, licence. Raises StackError for one without a licence."""
    found = {f"{one.name} {one.version}": _licence(one) for one in distributions(path=[str(_packages(venv))])}
    if unknown := [name for name, licence in found.items() if not licence]:
        raise StackError(f"no licence is known of {', '.join(unknown)}")
    return "".join(f"{name}: {found[name]}\n" for name in sorted(found, key=str.lower))


def _licence(package: Distribution) -> str:
    said = package.metadata
    classes = [one for one in said.get_all("Classifier") or () if one.startswith("License ::")]
    return (
        said["License-Expression"]
        or ", ".join(one.rpartition(" :: ")[2] for one in classes)
        or said["License"]
    )


def _packages(venv: Path) -> Path:
    (packages,) = venv.glob("lib/python*/site-packages")
    return packages


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run(*command: str, folder: Path | None = None, **environ: str) -> bytes:
    """The output of a command, which neither this checkout nor our own Python settings reach."""
    known = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}
    return subprocess.run(command, cwd=folder, env=known | environ, stdout=subprocess.PIPE, check=True).stdout


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("ops.release", __doc__)
    parser.add_argument("command", choices=["all", "build", "vulnerabilities"], nargs="?", default="all")
    return parser


if __name__ == "__main__":
    end_with(main)
