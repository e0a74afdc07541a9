"""The real control plane with points in it: `python -m tests.failpoints.server serve ...`.

For each storage verb two points: `before_commit` (inside the transaction, all is written) and `after_commit` (nothing
was sent yet); `after_send` when what it says is written to the stream or, for a call, when the call has been answered.
A verb that changes nothing reaches no point.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from control_plane.__main__ import main
from control_plane.api import runner_session
from control_plane.api.interceptors import Gate
from control_plane.api.reception import Reception
from control_plane.dispatch.dispatcher import Dispatcher
from control_plane.domain.attempt import AttemptState
from control_plane.domain.session import AttemptExited, AttemptStarted
from control_plane.lifecycle import reports
from control_plane.logs import commits
from control_plane.logs.files import FileLogStore
from control_plane.storage.database import Database
from control_plane.storage.following import Stir
from tests.failpoints.points import reach

VERBS = {
    "create_run": "submit",
    "offer": "offer",
    "cancel": "cancel",
    "retry": "retry",
    "schedules.fire": "firing",
    "schedules.trigger": "firing",
    "logs.seal": "release",
    "runners.enrol": "enrol",
    "runners.disconnect": "disconnect",
    "runs.delete_of_task": "delete",
    "purge.rows": "purge",
}
REPORTS = {
    "judge_reply": "accept",
    "judge_started": "started",
    "judge_exited": "exit",
    "judge_step": "step",
    "judge_stop_status": "stop_status",
}
SENT = {
    "offer": "offer",
    "assignment": "accept",
    "release": "release",
    "log_ack": "log_batch",
    "welcome": "welcome",
    "heartbeat_ack": "heartbeat",
    "fenced": "fenced",
    "withdraw": "withdraw",
    "log_rewind": "rewind",
}
CALLS = {
    "CreateRun": "submit",
    "RunTask": "submit",
    "CancelRun": "cancel",
    "RetryRun": "retry",
    "TriggerSchedule": "firing",
}

_kind: ContextVar[str] = ContextVar("kind", default="")


def point_of(name: str, result: Any) -> str | None:
    """The point of a verb that returned this; None if it changed nothing."""
    if name == "report":
        return (_kind.get() or "report") if result.moves else None
    if name == "held":
        return "held" if any(answer.moves for answer in result) else None
    if name in ("offer", "withdraw", "alarm", "due") and not result:
        return None
    if name == "alarm":
        lost = any(case.attempt is not None and case.attempt.state is AttemptState.LOST for case in result)
        return "lost" if lost else "alarm"
    return VERBS.get(name, name.replace(".", "_") or "unnamed")


def install() -> None:
    """Put the points in."""
    _in_storage()
    _in_dispatch()
    _in_reports()
    _in_logs()
    _in_streams()
    _in_calls()


def _in_storage() -> None:
    write = Database.write

    async def with_points(
        self: Database,
        body: Callable[[Any], Any],
        *,
        name: str = "",
        after: Callable[[Any], None] | None = None,
        **more: Any,
    ) -> Any:
        kind = _kind.get()

        def written(conn: Any) -> Any:
            result = body(conn)
            _kind.set(kind)  # this is the writer's thread
            _reach(name, result, "before_commit")
            return result

        def told(result: Any) -> None:
            _kind.set(kind)
            _reach(name, result, "after_commit")
            if after is not None:
                after(result)

        return await write(self, written, name=name, after=told, **more)

    Database.write = with_points


def _in_dispatch() -> None:
    """An offer that shares the transaction of what made it possible."""
    follow, followed = Dispatcher.follow, Dispatcher.followed

    def written(self: Dispatcher, connection: Any, stirs: Stir) -> Any:
        prompt = follow(self, connection, stirs)
        _reach("offer", prompt is not None and prompt.cases, "before_commit")
        return prompt

    def told(self: Dispatcher, stirs: Stir, prompt: Any, error: BaseException | None) -> None:
        _reach("offer", prompt is not None and prompt.cases, "after_commit")
        followed(self, stirs, prompt, error)

    Dispatcher.follow, Dispatcher.followed = written, told


def _reach(name: str, result: Any, moment: str) -> None:
    point = point_of(name, result)
    if point is not None:
        reach(f"server.{point}.{moment}")


def _in_reports() -> None:
    report = reports._report
    take = Reception._report

    async def known(house: Any, holder: Any, key: Any, judged: Any, **more: Any) -> Any:
        _kind.set(REPORTS.get(judged.func.__name__, ""))
        return await report(house, holder, key, judged, **more)

    async def served(self: Reception, session: Any, message: Any) -> None:
        """A start is answered by silence and an exit by its release: the point is when all that is due was said."""
        await take(self, session, message)
        if isinstance(message, AttemptStarted | AttemptExited):
            reach(f"server.{'started' if isinstance(message, AttemptStarted) else 'exit'}.after_send")

    reports._report = known
    Reception._report = served


def _in_logs() -> None:
    write, sync = commits.write, FileLogStore.sync

    def synced(self: FileLogStore, keys: Any) -> None:
        reach("server.log_batch.before_commit")
        sync(self, keys)

    def written(store: Any, pieces: Any) -> Any:
        result = write(store, pieces)
        reach("server.log_batch.after_commit")
        return result

    FileLogStore.sync = synced
    commits.write = written


class _Told:
    """A stream's context that reaches a point after each message."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def write(self, message: Any) -> None:
        await self._context.write(message)
        word = message.WhichOneof("message")
        reach(f"server.{SENT.get(word, word)}.after_send")


def _in_streams() -> None:
    begin = runner_session.Stream.__init__

    def begun(self: Any, caller: Any, context: Any, *rest: Any) -> None:
        begin(self, caller, context, *rest)
        self._context = _Told(context)

    runner_session.Stream.__init__ = begun


def _in_calls() -> None:
    wrap = Gate._coroutine

    def answered(self: Gate, behaviour: Any, method: str, metadata: Any) -> Any:
        call = wrap(self, behaviour, method, metadata)
        point = CALLS.get(method.rpartition("/")[2])
        if point is None:
            return call

        async def told(request: Any, context: Any) -> Any:
            context.add_done_callback(lambda _: reach(f"server.{point}.after_send"))
            return await call(request, context)

        return told

    Gate._coroutine = answered


def run(arguments: Sequence[str] | None = None) -> int:
    """The product's own main, with points."""
    install()
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run())
