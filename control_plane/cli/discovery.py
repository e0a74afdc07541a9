"""Find the control plane of this host: the admin.json that it writes into its state directory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from control_plane.cli.contexts import home
from control_plane.cli.errors import CliError

NAME = "admin.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """What admin.json says; pid is 0 when it does not say one."""

    url: str
    token: str = field(repr=False)
    pid: int
    path: Path

    def alive(self) -> bool:
        """Whether the process that wrote the file is still there."""
        return self.pid > 0 and process_exists(self.pid)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def state_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_STATE_HOME") or os.path.join(home(environ), ".local", "state")) / "banksman"


def dev_directory(environ: Mapping[str, str]) -> Path:
    """Where `banksman dev` keeps its state unless told otherwise."""
    return state_home(environ) / "dev"


def candidates(environ: Mapping[str, str]) -> list[Path]:
    if chosen := environ.get("BANKSMAN_STATE_DIR"):
        return [Path(chosen), Path(chosen) / "server"]
    return [state_home(environ) / "server", dev_directory(environ) / "server"]


def discover(environ: Mapping[str, str]) -> LocalServer | None:
    """The local server whose process lives, else the first one that left its file, else None."""
    found = [server for directory in candidates(environ) if (server := read_admin(directory / NAME))]
    return next((server for server in found if server.alive()), found[0] if found else None)


def read_admin(path: Path) -> LocalServer | None:
    """None when there is no such file, or it belongs to somebody else.

    Raises CliError when others may read it (a token in it is no secret any more) or it makes no sense.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = json.load(stream)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except (OSError, ValueError) as error:
        raise CliError(f"cannot read {path}", cause=str(error)) from error
    if mode & 0o077:
        raise CliError(f"{path} can be read by others than its owner", next_command=f"chmod 600 {path}")
    if not isinstance(data, dict) or not isinstance(data.get("url"), str) or not isinstance(data.get("token"), str):
        raise CliError(f"cannot read {path}", cause="it holds no url and token")
    pid = data.get("pid")
    return LocalServer(url=data["url"], token=data["token"], pid=pid if isinstance(pid, int) else 0, path=path)
