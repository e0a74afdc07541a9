"""Read a task or a spec from YAML or JSON: the contract's own field names, with a few shorter forms.

A file holds a task (with `spec:`) or a bare spec. Shorter forms: `command: [argv]` or `script:` beside a spec's other
fields for its only step, durations such as 5m, `env` and `selectors` as mappings, enum values without their prefix.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from control_plane.cli import contract
from control_plane.cli.durations import parse_duration
from control_plane.cli.errors import CliError
from control_plane.cli.parse_errors import explained

DURATIONS = {
    "timeout",
    "idle_timeout",
    "start_timeout",
    "queue_timeout",
    "grace",
    "backoff",
    "backoff_cap",
    "lost_after",
    "keep",
    "every",
}
COMMAND_FIELDS = ("argv", "script", "interpreter", "working_directory", "stdin", "success_exit_codes")
PREFIXES = {
    "kind": "STEP_KIND_",
    "operator": "SELECTOR_OPERATOR_",
    "on_lost": "ON_LOST_",
    "removal": "WORKSPACE_REMOVAL_",
    "type": "AGENT_TYPE_",
    "mode": "AGENT_MODE_",
    "unknown_variables": "UNKNOWN_VARIABLES_",
    "formats": "REPORT_FORMAT_",
    "events": "NOTIFICATION_EVENT_",
    "overlap": "OVERLAP_POLICY_",
    "catch_up": "CATCH_UP_POLICY_",
}
WRITABLE = (
    *("name", "description", "spec", "labels", "tags", "active", "etag", "variables", "owner", "is_public"),
    *("schedules", "report", "notifications", "unknown_variables", "allow_shell_substitution", "allowed_overrides"),
)
# Beside them a file is a task, also without a spec.
OF_A_TASK = set(WRITABLE) - {"name", "spec", "labels"}
Data = dict[str, Any]


def read_task_file(path: str) -> tuple[contract.task_pb2.Task, set[str]]:
    """The task that a file describes and the names of the fields that it gives.

    Output-only fields, as `task get -o yaml` prints them, are left out. Raises CliError that says what is wrong.
    """
    data = load(path)
    if "spec" not in data and not (set(data) & OF_A_TASK):
        data = {"spec": data}
    unknown = set(data) - set(contract.task_pb2.Task.DESCRIPTOR.fields_by_name)
    if unknown:
        raise CliError(f"{path} has fields that a task does not have: {', '.join(sorted(map(str, unknown)))}")
    data = {name: value for name, value in data.items() if name in WRITABLE}
    for name in set(data) - {"spec", "labels"}:
        data[name] = field_value(path, name, data[name])
    if "spec" in data:
        data["spec"] = whole_spec(path, data["spec"])
    task = contract.task_pb2.Task()
    parse(path, data, task)
    return task, set(data) - {"etag"}


def load(path: str) -> Data:
    import yaml

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CliError(f"cannot read {path}", cause=getattr(error, "strerror", None) or str(error)) from error
    if not isinstance(data, dict):
        raise CliError(f"{path} does not hold a mapping of fields")
    return data


def parse(path: str, data: Data, message: Any) -> None:
    from google.protobuf.json_format import ParseDict, ParseError

    try:
        ParseDict(data, message)
    except (ParseError, ValueError, TypeError) as error:
        raise CliError(f"{path} is not what the contract knows", cause=explained(error)) from error


def whole_spec(path: str, spec: Any) -> Data:
    """The spec with its shorter forms written out."""
    if not isinstance(spec, dict):
        raise CliError(f"{path}: spec must be a mapping of fields")
    spec = dict(spec)
    if "command" in spec:
        spec["argv"] = spec.pop("command")
    command = {name: spec.pop(name) for name in COMMAND_FIELDS if name in spec}
    if command and spec.get("steps"):
        raise CliError(f"{path}: give either steps or one command, not both")
    if command:
        spec["steps"] = [{"kind": "MAIN", "command": command}]
    whole = written_out(path, spec)
    for step in whole.get("steps", []):
        if isinstance(step, dict):
            step.setdefault("kind", "STEP_KIND_MAIN")
    return whole


def written_out(path: str, data: Data) -> Data:
    """One mapping with durations, enums, env and selectors as proto JSON has them."""
    return {name: field_value(path, name, value) for name, value in data.items()}


def field_value(path: str, name: str, value: Any) -> Any:
    if name in DURATIONS and value is not None:
        try:
            return f"{parse_duration(str(value)):.9f}s"
        except ValueError as error:
            raise CliError(f"{path}: {name}: {error}") from error
    if name in PREFIXES and isinstance(value, str):
        word = value.upper()
        return word if word.startswith(PREFIXES[name]) else PREFIXES[name] + word
    if name in PREFIXES and isinstance(value, list):
        return [field_value(path, name, item) for item in value]
    if name == "variables" and isinstance(value, dict):
        return [task_variable(path, key, given) for key, given in value.items()]
    if name == "options" and isinstance(value, dict):
        return {str(key): scalar(given) for key, given in value.items()}
    if name == "env" and isinstance(value, dict):
        return [variable(key, given) for key, given in value.items()]
    if name == "selectors" and isinstance(value, dict):
        return [selector(key, given) for key, given in value.items()]
    if isinstance(value, dict):
        return written_out(path, value)
    if isinstance(value, list):
        return [written_out(path, item) if isinstance(item, dict) else item for item in value]
    return value


def variable(name: Any, given: Any) -> Data:
    """NAME: value, or NAME: {secret: SECRET}."""
    if isinstance(given, dict) and set(given) == {"secret"}:
        return {"name": str(name), "secret_ref": str(given["secret"])}
    return {"name": str(name), "value": scalar(given)}


def task_variable(path: str, name: Any, given: Any) -> Data:
    """NAME: default, NAME: {secret: SECRET}, or NAME with the contract's own fields."""
    if not isinstance(given, dict):
        return {"name": str(name), **({} if given is None else {"default_value": given})}
    fields = {("secret_ref" if key == "secret" else str(key)): value for key, value in given.items()}
    if "default" in fields:
        fields["default_value"] = fields.pop("default")
    return {"name": str(name), **fields}


def selector(key: Any, given: Any) -> Data:
    """key: value or key: [values]."""
    values = given if isinstance(given, list) else [given]
    return {"key": str(key), "operator": "SELECTOR_OPERATOR_IN", "values": [scalar(value) for value in values]}


def scalar(value: Any) -> str:
    """YAML's true and 1 as people wrote them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
