"""Copies of the working tree, in which bugs are seeded; the tree itself is never touched."""

from __future__ import annotations

import compileall
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Mapping

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GENERATED = "gen"


def copy_of_the_working_tree(target: pathlib.Path, source: pathlib.Path = REPOSITORY) -> None:
    """Every file that git knows or would take, as it lies there now, and the generated code; compiled."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=source,
        check=True,
        capture_output=True,
    ).stdout
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    for name in names:
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    if (source / GENERATED).is_dir():
        shutil.copytree(source / GENERATED, target / GENERATED, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(target, quiet=2, workers=2)


def copy_of(base: pathlib.Path, target: pathlib.Path) -> None:
    """A copy of a copy, with what was compiled."""
    shutil.copytree(base, target, symlinks=True)


def environment(root: pathlib.Path) -> Mapping[str, str]:
    """Python's, so that every program that a test starts comes from the copy and not from what is installed."""
    return {**os.environ, "PYTHONPATH": f"{root}:{root / GENERATED}", "PYTHONDONTWRITEBYTECODE": "1"}


def origin(root: pathlib.Path, module: str) -> str:
    """The file from which a fresh process imports `module`; empty if it cannot. Nothing of it is in this process."""
    code = f"import {module} as found; print(found.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment(root), capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
