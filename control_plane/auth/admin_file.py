"""admin.json: how the CLI on this host finds the control plane and its token by itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

from control_plane.auth.keyfile import write_private
from control_plane.auth.tokens import TokenKind, kind_of

NAME = "admin.json"


def stored_token(state: Path) -> str | None:
    """The token of an earlier start; None when there is no file, or none that can be used."""
    try:
        words = json.loads((state / NAME).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    token = words.get("token") if isinstance(words, dict) else None
    return token if isinstance(token, str) and kind_of(token) is TokenKind.USER else None


def write(state: Path, *, url: str, token: str) -> None:
    """Replace the file in one step; only its owner can read it."""
    words = {"url": url, "token": token, "pid": os.getpid()}
    write_private(state / NAME, (json.dumps(words, indent=2) + "\n").encode())
