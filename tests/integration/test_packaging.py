"""Wheel and source distribution carry the generated contract: whoever installs them can import `banksman.v1`."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ("control_plane", "runner_agent", "protos")
FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy without anything generated, so that a build here cannot disturb tests that run beside it."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in SHIPPED:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    return copy


def build(source: pathlib.Path, kind: str, target: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (artifact,) = target.iterdir()
    return artifact


def import_from(directory: pathlib.Path, statement: str) -> str:
    """What `statement` prints in a fresh interpreter for which only `directory` holds the packages."""
    start = f"import sys; sys.path.insert(0, {str(directory)!r}); {statement}"
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, check=False, cwd=directory.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_wheel_made_from_the_source_distribution_imports_the_contract(
    checkout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    sdist = build(checkout, "sdist", tmp_path / "sdist")
    shutil.unpack_archive(sdist, tmp_path / "unpacked")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert not (source / "gen").exists(), "what is generated is made by the build, not shipped in the source"

    wheel = build(source, "wheel", tmp_path / "wheel")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)

    place = import_from(installed, "import banksman.v1.run_pb2_grpc as it; print(it.__file__)")
    assert pathlib.Path(place).is_relative_to(installed)
    for module in ("control_plane.cli.main", "control_plane.app", "runner_agent.app", "runner_agent.shim"):
        place = import_from(installed, f"import {module} as it; print(it.__file__)")
        assert pathlib.Path(place).is_relative_to(installed)
    assert any(path.suffix == ".pyi" for path in (installed / "banksman" / "v1").iterdir())
    assert (installed / "banksman" / "py.typed").exists()
    assert list(installed.rglob("migrations/versions/*.py")), "migrations are shipped"
