"""Words that other tools have for what a file says here otherwise: an error names ours and shows a line of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

# A line for each field that is often written in another shape; it is one that a file may hold as it stands.
EXAMPLES = {
    "steps": "steps: [{command: {argv: [make, all]}}]",
    "command": "command: {argv: [make, all]}",
    "argv": "argv: [make, all]",
    "script": "script: make all",
    "interpreter": "interpreter: [python3, -u]",
    "env": 'env: [{name: STAGE, value: "test"}]',
    "selectors": "selectors: [{key: os, operator: IN, values: [linux]}]",
    "values": "values: [linux]",
    "retry": "retry: {max_attempts: 3}",
    "retry_on": "retry_on: [failed, timeout]",
    "loss": "loss: {on_lost: RETRY}",
    "concurrency": "concurrency: [{limit: 1}]",
    "artifacts": "artifacts: [{path: dist/*.whl}]",
    "workspace": "workspace: {removal: ON_SUCCESS}",
    "success_exit_codes": "success_exit_codes: [0, 3]",
    "spec": "spec: {steps: [{command: {argv: [make, all]}}]}",
    "variables": "variables: [{name: stage, default_value: test}]",
    "tags": "tags: [nightly]",
    "labels": "labels: {team: core}",
    "report": "report: {enabled: true, formats: [PDF]}",
    "notifications": 'notifications: [{events: [FAILED], webhook_url: "https://example.org/hook"}]',
    "events": "events: [FAILED, LOST]",
    "parameters": "parameters: [{name: stage}]",
}
_PROGRAM = ("args", "cmd", "commands", "exec", "run")
_DIRECTORY = ("cwd", "dir", "workdir", "working_dir")
_ENV = ("environment", "env_vars", "envs")
_SECONDS = ("timeout_s", "timeout_seconds", "timeout_secs", "max_duration")


def _words(words: Iterable[str], line: str) -> dict[str, str]:
    return dict.fromkeys(words, EXAMPLES.get(line, line))


# By the message: what is written there, and the line that means it.
_INSTEAD = {
    "RunSpec": {
        **_words((*_PROGRAM, "command", "argv", "step"), "steps"),
        **_words(("script", "shell"), "steps: [{command: {script: make all}}]"),
        **_words((*_DIRECTORY, "working_directory"), "steps: [{command: {working_directory: sub, argv: [make]}}]"),
        **_words(("secrets", "secret"), "env: [{name: TOKEN, secret_ref: TOKEN}]"),
        **_words(_ENV, "env"),
        **_words(("label", "labels", "node_selector", "selector", "requirements"), "selectors"),
        **_words(("retries", "max_retries", "attempts", "max_attempts"), "retry"),
        **_words(("on_lost", "lost_after"), "loss"),
        **_words(("max_concurrent", "concurrency_limit", "parallelism"), "concurrency"),
        **_words(_SECONDS, "timeout: 10m"),
    },
    "Step": {
        **_words((*_PROGRAM, "argv"), "command"),
        **_words(("script", "shell"), "command: {script: make all}"),
        **_words((*_DIRECTORY, "working_directory"), "command: {working_directory: sub, argv: [make]}"),
        **_words(_ENV, "env"),
        **_words(_SECONDS, "timeout: 10m"),
    },
    "Command": {
        **_words((*_PROGRAM, "command"), "argv"),
        **_words(("shell", "source"), "script"),
        **_words(_DIRECTORY, "working_directory: sub"),
    },
    "EnvVar": {**_words(("key",), "name: STAGE"), **_words(("secret", "secret_name"), "secret_ref: TOKEN")},
    "Variable": {**_words(("default", "value"), "default_value: test"), **_words(("secret",), "secret_ref: TOKEN")},
    "RetryPolicy": _words(("max", "retries", "count", "attempts", "max_retries"), "max_attempts: 3"),
    "Task": {
        **_words(("vars", "params", "parameters"), "variables"),
        **_words(("public", "visibility"), "is_public: true"),
        **_words(("enabled",), "active: true"),
        **_words(("notify", "notification", "webhooks"), "notifications"),
        **_words(("reports",), "report"),
    },
    "Schedule": {
        **_words(("task", "task_name"), "task_id: build"),
        **_words(("schedule", "expression", "crontab"), "cron: 0 3 * * *"),
        **_words(("interval",), "every: 10m"),
        **_words(("at",), "once: 2030-01-02T03:04:05Z"),
        **_words(("timezone", "tz"), "time_zone: Europe/Berlin"),
        **_words(("active", "enabled", "suspend"), "paused: true"),
    },
}
_INSTEAD["Template"] = {word: line for word, line in _INSTEAD["Task"].items() if word not in ("enabled", "parameters")}
_INSTEAD["Template"]["params"] = EXAMPLES["parameters"]
_SCHEDULES = ("schedules", "schedule", "cron")


def instead(message: str, word: str, of_a_spec: Collection[str]) -> str:
    """What the field is called whose name somebody took for `word`, as the end of a sentence; empty if nobody knows.

    `of_a_spec`: the fields of a spec, which are often written beside it.
    """
    word = word.strip().lower().replace("-", "_")
    known = _INSTEAD.get(message, {})
    if word in known:
        return f"; it is called {known[word].partition(':')[0]!r} here: {known[word]}"
    if message not in ("Task", "Template"):
        return ""
    if word in _SCHEDULES:
        return "; a schedule is a document of its own, of the kind Schedule, with task_id"
    if word in of_a_spec:
        return f"; it belongs into 'spec'{like(word, outer='spec')}"
    if word in _INSTEAD["RunSpec"]:
        return f"; it belongs into 'spec': spec: {{{_INSTEAD['RunSpec'][word]}}}"
    return ""


def like(field: str, *, outer: str = "") -> str:
    """A line of the field as the end of a sentence; empty if there is none."""
    line = EXAMPLES.get(field, "")
    return line and (f": {outer}: {{{line}}}" if outer else f", such as {line}")
