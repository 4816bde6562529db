"""The deployment package: reproducible, complete for each architecture, and made of pinned bytes only."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from ops.aws_lambda.package import MACHINES, NOT_FOR_LAMBDA, SHARED, SOURCE, build
from ops.stack import DownloadFailed
from ops.stack.fetch.pinned import unpacked
from tests.stack.test_downloads import pip_finds_only

ELF_MACHINES = {"x86_64": 62, "arm64": 183}  # elf(5), e_machine


@pytest.mark.parametrize("architecture", MACHINES)
def test_the_same_source_makes_the_same_bytes(architecture: str, zips: Path, tmp_path: Path) -> None:
    again = tmp_path / "some" / "where" / "else.zip"
    build(architecture, again)
    assert again.read_bytes() == (zips / f"authorizer-{architecture}.zip").read_bytes()


@pytest.mark.parametrize("architecture", MACHINES)
def test_compiled_code_is_for_the_architecture(architecture: str, zips: Path) -> None:
    with zipfile.ZipFile(zips / f"authorizer-{architecture}.zip") as archive:
        compiled = [name for name in archive.namelist() if name.endswith(".so")]
        assert len(compiled) == 2, "of cryptography, and the part of cffi that it needs"
        for name in compiled:
            head = archive.read(name)[:20]
            assert (
                head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], "little") == ELF_MACHINES[architecture]
            )


@pytest.mark.parametrize("architecture", MACHINES)
def test_the_zip_holds_package_dependencies_and_all_their_bytecode(architecture: str, zips: Path) -> None:
    with zipfile.ZipFile(zips / f"authorizer-{architecture}.zip") as archive:
        names = set(archive.namelist())
        ours = {
            name
            for name in names
            if name.startswith(("authorizer_lambda", "tidemark")) and name.endswith(".py")
        }
        modules_of_lambda = {module.name for module in SOURCE.glob("*.py")} - NOT_FOR_LAMBDA
        assert ours == {*SHARED, *(f"authorizer_lambda/{name}" for name in modules_of_lambda)}
        for name in ours:
            assert archive.read(name) == (SOURCE.parent / name).read_bytes()
    modules = {name for name in names if name.endswith(".py")}
    bytecode = {Path(name) for name in names if name.endswith(".pyc")}
    tag = sys.implementation.cache_tag
    assert {
        Path(name).parent / "__pycache__" / f"{Path(name).stem}.{tag}.pyc" for name in modules
    } == bytecode
    assert {name.partition("/")[0] for name in modules} == {
        "authorizer_lambda",
        "cryptography",
        "jwt",
        "tidemark",
    }
    assert not any("template" in name or name.startswith("/") or ".." in name for name in names)


def test_a_download_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMARK_CACHE_DIR", str(tmp_path / "cache"))
    pip_finds_only(tmp_path, monkeypatch)
    wheel = tmp_path / "pyjwt-2.15.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("jwt/__init__.py", "raise SystemExit('not the real one')")
        archive.writestr(
            "pyjwt-2.15.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: pyjwt\nVersion: 2.15.1\n"
        )
        archive.writestr("pyjwt-2.15.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("pyjwt-2.15.1.dist-info/RECORD", "")
    requirements = tmp_path / "requirements.txt"
    pinned = (SOURCE / "requirements.txt").read_text()
    requirements.write_text(pinned[pinned.index("pyjwt==") :])
    with pytest.raises(DownloadFailed, match="Expected sha256"):
        unpacked(requirements, "x86_64")
    requirements.write_text("pyjwt==2.15.1\n")
    with pytest.raises(DownloadFailed, match="hashes"):
        unpacked(requirements, "x86_64")
