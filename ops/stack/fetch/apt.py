"""Distribution packages unpacked into a private folder, without root; apt verifies their signatures.

The archive's address comes from the machine's apt sources. The package state is empty, so apt brings all
dependencies down to libc: the folder's own loader runs the programs on an older release too.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ops.stack.errors import DownloadFailed
from ops.stack.fetch.cache import locked
from ops.stack.progress import say

APT_FOLDER = Path("/etc/apt")
KEYRINGS = Path("/usr/share/keyrings")
DPKG_STATUS = Path("/var/lib/dpkg/status")
KEPT = {
    "": ("usr", "lib", "lib64"),
    "usr/share": ("mysql", "fonts"),
    "usr/bin": ("redis-*", "wrk", "prom*", "mysql"),
    "usr/sbin": ("mysqld", "nginx"),
}
UNUSED_LIBRARIES = ("usr/lib/*/perl*", "usr/lib/*/libperl*", "usr/lib/*/gconv", "usr/lib/systemd")


@dataclass(frozen=True)
class Archive:
    """The address of a distribution's packages, and the key that signs them."""

    uri: str
    suite: str
    components: str
    keyring: Path

    def stanza(self) -> str:
        """The entry of the private apt sources (deb822)."""
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {self.suite}\n"
            f"Components: {self.components}\nSigned-By: {self.keyring}\n"
        )


def distribution(os_release: Mapping[str, str]) -> tuple[str, str]:
    """(`debian` or `ubuntu`, the suite to take packages from) for the fields of os-release(5).

    Debian has a MySQL server in `sid` only; Ubuntu in each release. Raises DownloadFailed for other systems.
    """
    family = [os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()]
    if "ubuntu" in family:
        return "ubuntu", os_release.get("UBUNTU_CODENAME") or os_release["VERSION_CODENAME"]
    if "debian" in family:
        return "debian", "sid"
    raise DownloadFailed(
        f"no server packages are known for this system ({family[0]}): put mysqld, mongod and redis-server on "
        "PATH, give their URLs (TIDEMARK_*_ADMIN_URL), or use Docker"
    )


def archives(apt_folder: Path, name: str, suite: str, keyrings: Path = KEYRINGS) -> list[Archive]:
    """The archives in the machine's apt sources with the distribution's name in the address.

    Their packages must be signed with the distribution's key, so a third party's packages are never used.
    Raises DownloadFailed if the machine has no such key.
    """
    keyring = next(
        (
            path
            for ending in ("gpg", "pgp")
            if (path := keyrings / f"{name}-archive-keyring.{ending}").exists()
        ),
        None,
    )
    if keyring is None:
        package = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}[name]
        raise DownloadFailed(
            f"{keyrings} has no key of the {name} archive: sudo apt-get install -y {package}"
        )
    found = dict.fromkeys(
        uri
        for uri, suites, components in [*_deb822_entries(apt_folder), *_one_line_entries(apt_folder)]
        if "main" in components and not any("security" in part for part in (uri, *suites))
    )
    components = "main universe" if name == "ubuntu" else "main"
    likely = [uri for uri in found if name in uri]
    return [Archive(uri, suite, components, keyring) for uri in likely or found]


def _deb822_entries(apt_folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for file in sorted(apt_folder.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            fields = {
                key.lower(): value.split()
                for key, value in re.findall(r"^([\w-]+):(.*(?:\n[ \t].*)*)", stanza, re.M)
            }
            if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
                for uri in fields.get("uris", []):
                    yield uri, fields.get("suites", []), fields.get("components", [])


def _one_line_entries(apt_folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for file in [apt_folder / "sources.list", *sorted(apt_folder.glob("sources.list.d/*.list"))]:
        text = file.read_text() if file.exists() else ""
        for uri, suite, components in re.findall(r"^deb\s+(?:\[.*?\]\s+)?(\S+)\s+(\S+)\s*(.*)$", text, re.M):
            yield uri, [suite], components.split()


def fetch(alternatives: Sequence[str], tree: Path, folder: Path, *, beside_the_system: bool = False) -> None:
    """Unpack into `folder` the first of `alternatives` that the distribution has, with its dependencies.

    `beside_the_system`: from the machine's release, without packages that are installed; the program uses the
    machine's libraries. `tree` keeps received files, so an interrupted download continues. Raises
    DownloadFailed.
    """
    with locked(tree.with_name(f"{tree.name}.lock")):
        debs = _download(alternatives, tree, beside_the_system)
        unpack(debs, folder)
        os.sync()  # the caller renames the folder: its files must reach the disk before the new name does
        for deb in debs:
            deb.unlink()


def _download(alternatives: Sequence[str], tree: Path, beside_the_system: bool) -> list[Path]:
    os_release = platform.freedesktop_os_release()
    name, suite = distribution(os_release)
    if beside_the_system:
        suite = os_release.get("VERSION_CODENAME", suite)
    failures: list[str] = []
    for archive in archives(APT_FOLDER, name, suite):
        apt = PrivateApt(tree, archive, DPKG_STATUS if beside_the_system else None)
        try:
            return apt.download(alternatives)
        except subprocess.CalledProcessError as error:
            failures.append(f"{archive.uri} {suite}: {_complaint(error)}")
    raise DownloadFailed(
        f"apt could not download {alternatives[0]}, is there a network? ({'; '.join(failures)})"
    )


class PrivateApt:
    """An apt with its own folder; it shares only network settings and keys with the machine."""

    def __init__(self, tree: Path, archive: Archive, installed: Path | None = None) -> None:
        self.tree = tree
        self.installed = installed  # the list of installed packages; None: an empty one
        self.archive = archive
        self.debs = tree / "archives"

    def download(self, alternatives: Sequence[str]) -> list[Path]:
        """The first package that the archive has, and its dependencies, as .deb files.

        Raises CalledProcessError with apt's output.
        """
        for folder in ("lists/partial", "archives/partial", "nothing/partial"):
            (self.tree / folder).mkdir(parents=True, exist_ok=True)
        (self.tree / "status").write_text("")
        (self.tree / "archive.sources").write_text(self.archive.stanza())
        self._run("update", "--error-on=any")
        *others, last = alternatives
        for package in others:
            with suppress(subprocess.CalledProcessError):
                return self._install(package)
        return self._install(last)

    def _install(self, package: str) -> list[Path]:
        # --print-uris omits files that are in the archives folder already: ask with an empty one
        empty = f"Dir::Cache::archives={self.tree / 'nothing'}"
        planned = self._run("install", "-o", empty, "--print-uris", "-y", "--no-install-recommends", package)
        files = re.findall(r"^'\S+' (\S+\.deb) (\d+)", planned, re.M)
        megabytes = sum(int(size) for _, size in files) / 1e6
        say(f"downloading {package} ... {megabytes:.0f} MB in {len(files)} packages")
        self._run("install", "--download-only", "-y", "--no-install-recommends", package)
        return [self.debs / file for file, _ in files]

    def _run(self, *arguments: str) -> str:
        settings = {
            "Dir::Etc::sourcelist": self.tree / "archive.sources",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": self.tree / "lists",
            "Dir::State::status": self.installed or self.tree / "status",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Default-Release": "",
            "Acquire::GzipIndexes": "true",
            "Dir::Cache": self.tree,
            "Dir::Cache::archives": self.debs,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        options = [argument for key, value in settings.items() for argument in ("-o", f"{key}={value}")]
        done = subprocess.run(
            ["apt-get", "-q", *options, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout


def unpack(debs: Sequence[Path], folder: Path) -> None:
    """Unpack .deb files into one `folder`, then remove all that servers do not need."""
    for deb in debs:
        done = subprocess.run(
            ["dpkg", "-x", str(deb), str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            deb.unlink(missing_ok=True)
            raise DownloadFailed(f"{deb} was damaged and is removed, try again ({done.stderr.strip()})")
    _prune(folder)


def _prune(folder: Path) -> None:
    unused = [
        entry
        for place, patterns in KEPT.items()
        for entry in (folder / place).glob("*")
        if not any(entry.match(pattern) for pattern in patterns)
    ]
    for entry in [*unused, *(found for pattern in UNUSED_LIBRARIES for found in folder.glob(pattern))]:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _complaint(error: subprocess.CalledProcessError) -> str:
    lines = [line for line in (error.stderr or "").splitlines() if line.startswith(("E:", "W:"))]
    return lines[0] if lines else f"apt-get ended with status {error.returncode}"
