"""Words of the session on their way: no message grows with what a runner holds, and nobody is left out for ever."""

from control_plane.api.session_messages import MOST_ASSIGNMENT_BYTES, bounded
from control_plane.domain.ids import AttemptKey, RunId
from control_plane.domain.session import Assignment, Verdict, VerdictKind
from control_plane.domain.spec import Command, RunSpec, Step, StepKind


def start(name: str, size_bytes: int) -> Verdict:
    key = AttemptKey(run_id=RunId(name), lease_epoch=1)
    step = Step(kind=StepKind.MAIN, command=Command(argv=("true",), stdin=b"x" * size_bytes))
    assignment = Assignment(key=key, spec=RunSpec(steps=(step,)), lost_after_s=None)
    return Verdict(key=key, kind=VerdictKind.START, assignment=assignment)


def keep(name: str) -> Verdict:
    return Verdict(key=AttemptKey(run_id=RunId(name), lease_epoch=1), kind=VerdictKind.KEEP)


def names(verdicts: tuple[Verdict, ...]) -> str:
    return "".join(verdict.key.run_id for verdict in verdicts)


def test_assignments_are_bounded_and_everything_else_is_said():
    large = MOST_ASSIGNMENT_BYTES // 2 + 1
    verdicts = (start("a", large), keep("b"), start("c", large), start("d", 10), keep("e"))
    assert names(bounded(verdicts)) == "abde"
    assert [names(bounded(verdicts, turn=turn)) for turn in (1, 2, 3)] == ["bcde", "abde", "abde"]


def test_one_that_is_too_large_alone_is_said_alone():
    huge = start("a", 2 * MOST_ASSIGNMENT_BYTES)
    assert bounded((huge,)) == (huge,)
    assert names(bounded((huge, start("b", 10)))) == "a"
    assert names(bounded((huge, start("b", 10)), turn=1)) == "b"
