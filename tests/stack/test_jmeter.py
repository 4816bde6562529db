"""The user's own JMeter is used if it is recent; without Java one line says what to install."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ops.stack import ProgramMissing
from ops.stack.fetch import jmeter as module

find = module.jmeter.__wrapped__  # without its cache


def home(folder: Path, version: str) -> Path:
    jar = folder / "bin/ApacheJMeter.jar"
    jar.parent.mkdir(parents=True)
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr(
            "META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\nImplementation-Version: {version}\r\n"
        )
    script = folder / "bin/jmeter"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return folder


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with java alone, no JMETER_HOME, and a cache that holds JMeter already."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "java").write_text("#!/bin/sh\n")
    (folder / "java").chmod(0o755)
    home(tmp_path / "cache/jmeter-5.5", "5.5")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JMETER_HOME", raising=False)
    monkeypatch.setenv("TIDEMARK_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def test_jmeter_home_goes_before_path_and_path_before_the_cache(
    tmp_path: Path, java: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find().home == tmp_path / "cache/jmeter-5.5"
    (java / "jmeter").symlink_to(home(tmp_path / "installed", "5.6.3") / "bin/jmeter")
    assert find().home == tmp_path / "installed"
    monkeypatch.setenv("JMETER_HOME", str(home(tmp_path / "mine", "5.6.3")))
    assert find().home == tmp_path / "mine"
    assert find().command[0] == str(java / "java")
    assert find().command[-1] == str(tmp_path / "mine/bin/ApacheJMeter.jar")


def test_debians_jmeter_is_refused_and_the_reason_said(
    tmp_path: Path, java: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JMETER_HOME", str(home(tmp_path / "debian", "2.13.20180731")))
    assert find().version == "Apache JMeter 5.5"
    assert "(2.13.20180731): 5 or newer is needed" in capsys.readouterr().err


def test_without_java_one_line_says_what_to_install(java: Path) -> None:
    (java / "java").unlink()
    with pytest.raises(ProgramMissing, match="sudo apt-get install -y default-jre-headless"):
        find()
