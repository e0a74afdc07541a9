"""Which cgroups this host lets us have: version 2 with `cgroup.kill`, else the version 1 freezer, else none."""

from __future__ import annotations

import functools
import os

from runner_agent.shim.cgroup import Cgroup
from runner_agent.shim.freezer import FreezerCgroup

_OURS = "banksman-"
_UNIFIED = ""
_FREEZER = "freezer"


def create(name: str) -> Cgroup | None:
    """A new cgroup below our own, of the best kind that the host allows; None if it allows none."""
    made = _create_in(_own_places(), name)
    if made is None and any(place is not None and not os.path.isdir(place) for place in _own_places()):
        _own_places.cache_clear()  # we were moved, and what was ours is gone
        made = _create_in(_own_places(), name)
    return made


@functools.cache
def _own_places() -> tuple[str | None, str | None]:
    """Looked up once, before the first fork: below the place that we had, children stay where they are told to be."""
    return own_cgroup(), own_freezer()


def _create_in(places: tuple[str | None, str | None], name: str) -> Cgroup | None:
    unified, freezer = places
    made = None if unified is None else Cgroup.create_in(unified, name)
    if made is not None or freezer is None:
        return made
    return FreezerCgroup.create_in(freezer, name)


def at(path: str | None) -> Cgroup | None:
    """The attempt's cgroup that an identity names, there or not; None if this is no place where we make any."""
    if path is None or "\0" in path or not os.path.basename(path).startswith(_OURS) or not _can_be_a_path(path):
        return None
    parent = os.path.dirname(path)
    if not os.path.exists(os.path.join(parent, "cgroup.procs")):
        return None
    is_unified = os.path.exists(os.path.join(parent, "cgroup.controllers"))
    return Cgroup(path) if is_unified else FreezerCgroup(path)


def _can_be_a_path(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def name_for(shim_pid: int, instant_ns: int) -> str:
    """The name of a new cgroup of this shim's."""
    return f"{_OURS}{shim_pid}-{instant_ns:x}"


def remove_left_behind() -> None:
    """Remove the empty cgroups below our own whose shims are dead; those with processes in them cannot be removed."""
    for parent in _own_places():
        if parent is None or not os.path.isdir(parent):
            continue
        for name in os.listdir(parent):
            shim_pid = name.removeprefix(_OURS).partition("-")[0]
            if not name.startswith(_OURS) or not shim_pid.isdecimal() or os.path.exists(f"/proc/{shim_pid}"):
                continue
            left = at(os.path.join(parent, name))
            if left is not None:
                left.remove()


def fork_in(cgroup: Cgroup | None) -> tuple[int, Cgroup | None]:
    """Fork into the cgroup: (pid, the cgroup, or None if the child could not be put there). Raises OSError."""
    if cgroup is None:
        return os.fork(), None
    try:
        return cgroup.fork(), cgroup
    except OSError:  # version 1, an older kernel, or a filter: fork, then move
        pid = os.fork()
    if pid == 0 or cgroup.add(pid):
        return pid, cgroup
    cgroup.remove()
    return pid, None


def own_cgroup() -> str | None:
    """The directory of our own cgroup in the version 2 hierarchy; None without one (or outside our namespace)."""
    return _own(_UNIFIED)


def own_freezer() -> str | None:
    """The directory of our own cgroup in the version 1 freezer; None without one."""
    return _own(_FREEZER)


def _own(controller: str) -> str | None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = file.read()
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return own_directory(controller, mounts, file.read())


def own_directory(controller: str, mountinfo: str, membership: str) -> str | None:
    """Where the hierarchy of `controller` ("" is version 2) shows our own cgroup, from the two files of /proc/self."""
    mount = _mount_of(controller, mountinfo)
    if mount is None:
        return None
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(",") or path.startswith("/.."):
            continue
        root, point = mount
        if path != root and not path.startswith(root.rstrip("/") + "/"):
            return None
        return os.path.join(point, path[len(root) :].lstrip("/")).rstrip("/")
    return None


def _mount_of(controller: str, mountinfo: str) -> tuple[str, str] | None:
    """(the cgroup that is mounted, where)."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, *rest) = left.split(), right.split()
        found = kind == "cgroup2" if not controller else kind == "cgroup" and controller in rest[-1].split(",")
        if found and (controller or fields[3] == "/"):
            return fields[3], fields[4]
    return None
