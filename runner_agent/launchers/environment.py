"""What a child's environment is made of. Nothing of the agent's own comes through but an allow-list."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

_ALLOWED = ("PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "SHELL", "TMPDIR")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """PATH, HOME, LANG, LC_*, TZ, USER, LOGNAME, SHELL and TMPDIR; what is missing comes from the user database."""
    base = {name: value for name, value in environ.items() if name in _ALLOWED or name.startswith("LC_")}
    base.setdefault("PATH", _DEFAULT_PATH)
    base.setdefault("LANG", "C.UTF-8")
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        base.setdefault("HOME", "/")
        return base
    base.setdefault("HOME", entry.pw_dir)
    base.setdefault("USER", entry.pw_name)
    base.setdefault("LOGNAME", entry.pw_name)
    base.setdefault("SHELL", entry.pw_shell or "/bin/sh")
    return base
