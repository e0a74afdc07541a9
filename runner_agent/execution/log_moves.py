"""Tell a session's log lane what was decided about a log."""

from __future__ import annotations

from typing import assert_never

from runner_agent.domain.outputs import AckLog, CloseLog, HeardLog, LogGrew, OpenLog, RewindLog, SetLogLimits
from runner_agent.outbox import Outbox

LogOutput = OpenLog | LogGrew | AckLog | HeardLog | RewindLog | CloseLog | SetLogLimits


def move_log(outbox: Outbox, output: LogOutput, now_boot_ns: int) -> None:
    """Apply it, and let the writer look again if that may have given it something to do."""
    flow = outbox.flow
    on_the_way = flow.on_the_way()
    match output:
        case SetLogLimits():
            flow.set_limits(window_bytes=output.window_bytes, max_chunk_bytes=output.max_chunk_bytes)
        case OpenLog():
            flow.open(output.key, offset=output.offset, spooled=output.spooled_offset)
            if output.spooled_offset <= output.offset and flow.on_the_way() == on_the_way:
                return  # there is nothing to send: most logs are opened before their first byte
        case LogGrew():
            flow.grew(output.key, output.spooled_offset)
        case AckLog():
            flow.acked(output.key, output.committed_offset, now_boot_ns, output.window_bytes)
        case HeardLog():
            flow.heard(output.key, output.committed_offset, now_boot_ns)
        case RewindLog():
            flow.rewind(output.key, output.expected_offset)
        case CloseLog():
            flow.close(output.key)
            if flow.on_the_way() == on_the_way:
                return  # nobody's turn comes by that
        case _:
            assert_never(output)
    outbox.wake()
