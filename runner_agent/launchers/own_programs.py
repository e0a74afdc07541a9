"""Programs that runs find in their PATH beside the host's: `banksman-run`, in a directory of the agent's own."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import runner_agent

DIRECTORY = "bin"
NAME = "banksman-run"
# As the fork server starts: nothing of the environment but the one package, and no site, which would take longer.
_PROGRAM = "import sys; sys.path.append({root!r}); from runner_agent.shim.inside import main; sys.exit(main())"


def install(state_dir: Path) -> Path:
    """Write the programs of this version; the directory that they are in. Raises OSError."""
    directory = state_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    root = str(Path(runner_agent.__file__).resolve().parent.parent)
    program = _PROGRAM.format(root=root)
    line = f'exec {shlex.quote(sys.executable)} -I -S -c {shlex.quote(program)} "$@"'
    written = directory / f".{NAME}.{os.getpid()}"
    written.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    written.chmod(0o700)
    written.replace(directory / NAME)
    return directory


def with_programs(base_env: dict[str, str], directory: Path) -> dict[str, str]:
    """The environment with that directory last in PATH: whatever the host has of these names comes first."""
    return {**base_env, "PATH": f"{base_env['PATH']}:{directory}"}
