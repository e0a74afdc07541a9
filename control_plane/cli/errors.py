"""What went wrong, as a person reads it: one sentence, the reason code, the cause, the next command."""

from __future__ import annotations

from control_plane.cli.exits import ExitCode
from control_plane.cli.plain import plain


class CliError(Exception):
    """An end of the program that was foreseen.

    `details` are lines such as refused fields; `next_command` is a whole command line to try. `wanted` marks an end
    that is no mistake of anybody's, such as a detach. `fields` are refused fields by their path, each with what is
    wrong with it.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = ExitCode.USAGE,
        reason: str = "",
        cause: str = "",
        details: tuple[str, ...] = (),
        next_command: str = "",
        debug: str = "",
        wanted: bool = False,
        fields: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = int(exit_code)
        self.reason = reason
        self.cause = cause
        self.details = details
        self.next_command = next_command
        self.debug = debug
        self.wanted = wanted
        self.fields = fields

    def render(self, *, debug: bool = False) -> str:
        """Lines for stderr, without a trailing newline and without control characters."""
        reason = f" ({self.reason})" if self.reason else ""
        lines = [f"{'banksman' if self.wanted else 'error'}: {plain(self.message)}{reason}"]
        lines += [f"  {plain(line)}" for line in self.details]
        if self.cause:
            lines.append(f"cause: {plain(self.cause)}")
        if self.next_command:
            lines.append(f"next:  {plain(self.next_command)}")
        if debug and self.debug:
            lines += ["", *(plain(line) for line in self.debug.splitlines())]
        return "\n".join(lines)
