"""The words in which the CLI tells a run's state and reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from control_plane.cli.plain import plain

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from control_plane.cli.contract import run_pb2

SENTENCES = {
    "EXIT_ZERO": "the program ended well",
    "EXIT_NONZERO": "the program exited with a code that means failure",
    "SIGNALLED": "the program was ended by a signal",
    "OOM_KILLED": "the kernel killed it for want of memory",
    "SPAWN_FAILED": "the program could not be started",
    "SECRET_UNAVAILABLE": "a secret that it needs is gone",
    "NOT_STARTED": "it was never started",
    "RUNNER_REFUSED": "the runner refused it",
    "OFFER_EXPIRED": "the runner did not answer the offer",
    "USER_CANCEL": "it was cancelled",
    "SUPERSEDED": "a newer run took its place",
    "FORCED": "it was ended by force",
    "TASK_DELETED": "its task was deleted",
    "TASK_INACTIVE": "its task is not active",
    "OVERLAP": "an earlier run of the schedule was still active",
    "LIMIT_REACHED": "a limit was reached",
    "RUN_TIMEOUT": "it ran longer than its timeout",
    "IDLE_TIMEOUT": "it printed nothing for longer than its idle timeout",
    "QUEUE_TIMEOUT": "it waited in the queue for too long",
    "START_TIMEOUT": "it did not start in time",
    "DEADLINE_PASSED": "its deadline passed",
    "RUNNER_LOST": "its runner was silent for too long",
    "MARKED_LOST": "an operator marked it lost",
    "SHIM_DIED": "the process that watches it on the host died",
    "HOST_REBOOTED": "the host was rebooted",
    "RUNNER_SHUTDOWN": "the runner was shut down",
    "PROTOCOL_ERROR": "the runner broke the protocol",
}


def enum_word(message: Message, field: str) -> str:
    """The value of an enum field without its type's prefix: FAILED, EXIT_NONZERO; empty when unspecified."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    number = getattr(message, field)
    enum_type = descriptor.enum_type
    value = enum_type.values_by_number.get(number) if enum_type else None
    if enum_type is None or value is None:
        return str(number)
    word: str = value.name.removeprefix(prefix_of(enum_type.name))
    return "" if word == "UNSPECIFIED" else word


def enum_words(message: Message, field: str) -> list[str]:
    """The values of a repeated enum field, in small letters and without their type's prefix."""
    enum_type = message.DESCRIPTOR.fields_by_name[field].enum_type
    if enum_type is None:
        return []
    known, prefix = enum_type.values_by_number, prefix_of(enum_type.name)
    return [known[number].name.removeprefix(prefix).lower() for number in getattr(message, field) if number in known]


def prefix_of(type_name: str) -> str:
    """RunState -> RUN_STATE_."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in type_name).lstrip("_") + "_"


def state_word(run: run_pb2.Run | run_pb2.Attempt) -> str:
    return enum_word(run, "state")


def reason_sentence(run: run_pb2.Run | run_pb2.Attempt) -> str:
    """The reason as a sentence: the control plane's own if it gave one."""
    if run.error_message:
        return plain(run.error_message)
    word = enum_word(run, "reason")
    return SENTENCES.get(word, word.replace("_", " ").lower())


def short_id(identifier: str) -> str:
    """The last 8 hex digits of an id; they are random, while the first ones are the time."""
    return identifier[-8:]


def run_title(run: run_pb2.Run) -> str:
    """What a person calls the run: its title, its task, its template, or its command."""
    if run.options.title or run.task_name:
        return plain(run.options.title or run.task_name)
    if run.template_name:
        # Said, as `--task` finds no such run.
        return plain(f"template {run.template_name}")
    for step in run.spec.steps:
        command = step.command
        return plain(" ".join(command.argv) if command.argv else command.script.strip().split("\n", 1)[0])[:60]
    return ""
