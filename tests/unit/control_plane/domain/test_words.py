"""Names, errors, reasons and back-off: what people read and type."""

from datetime import timedelta

import pytest

from control_plane.domain import errors
from control_plane.domain.errors import CATALOGUE, BanksmanError, ErrorCode, FieldViolation, invalid_fields
from control_plane.domain.names import check_labels, check_name, check_tags, is_id
from control_plane.domain.reason import Reason, sentence
from control_plane.domain.retry import delay_s, next_try_at
from control_plane.domain.spec import RetryPolicy
from control_plane.domain.timing import Timing
from tests.fakes.cases import NOW, run, spec

GRPC_STATUSES = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "ABORTED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "OUT_OF_RANGE",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "INTERNAL",
}


def test_the_catalogue_is_whole() -> None:
    assert set(CATALOGUE) == set(ErrorCode)
    for entry in CATALOGUE.values():
        assert entry.status in GRPC_STATUSES
        assert 400 <= entry.http_status < 600
        assert entry.text.endswith(".")


@pytest.mark.parametrize("code", ErrorCode)
def test_each_code_belongs_to_one_class(code: ErrorCode) -> None:
    classes = [kind for kind in BanksmanError.__subclasses__() if kind.status == CATALOGUE[code].status]
    assert len(classes) == 1
    error = classes[0](code)
    assert (error.code, error.message) == (code, CATALOGUE[code].text)
    other = errors.NotFound if classes[0] is not errors.NotFound else errors.Aborted
    with pytest.raises(ValueError, match=str(code)):
        other(code)


def test_invalid_fields_names_them_all() -> None:
    error = invalid_fields(
        FieldViolation(field="a", description="is bad"), FieldViolation(field="b", description="is worse")
    )
    assert error.message == "a: is bad; b: is worse"
    assert len(error.violations) == 2


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_a_sentence(reason: Reason) -> None:
    text = sentence(reason)
    assert text[0].isupper()
    assert text.endswith(".")
    assert sentence(reason, detail="no such file.").endswith(": no such file.")
    assert sentence(reason, detail=" because ").endswith(": because.")


def test_sentences_name_codes_and_signals() -> None:
    assert sentence(Reason.EXIT_NONZERO, exit_code=3) == "The program ended with exit code 3."
    assert sentence(Reason.SIGNALLED, signal=9) == "The program was ended by signal 9 (SIGKILL)."
    assert sentence(Reason.SIGNALLED, signal=40) == "The program was ended by signal 40."


@pytest.mark.parametrize("name", ["a", "x" * 255, "Größe 7", "nightly build", "日本", "a.b-c_d"])
def test_good_names(name: str) -> None:
    assert list(check_name(name, "name")) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 256,
        "a/b",
        "a\n",
        "a\0b",
        " a",
        "a ",
        "@last",
        "u\u0308",
        "01900000-0000-7000-8000-0000000000aa",
        "019000000000700080000000000000AA",
        "\u202egpj.exe",
    ],
)
def test_bad_names(name: str) -> None:
    assert [violation.field for violation in check_name(name, "task.name")] == ["task.name"]


def test_ids_are_told_from_names() -> None:
    assert is_id("01900000-0000-7000-8000-0000000000aa")
    assert not is_id("build")


def test_labels_and_tags() -> None:
    assert list(check_labels({"os": "linux", "example.com/tier": "", "a": "1.2_3-4"}, "labels")) == []
    assert [v.field for v in check_labels({"os": "-"}, "labels")] == ["labels[os]"]
    assert list(check_tags(("a", "b c"), "tags")) == []
    assert [v.field for v in check_tags(("", "x" * 64), "tags")] == ["tags[0]", "tags[1]"]
    assert [v.field for v in check_tags(("a",) * 33, "tags")] == ["tags"]


def test_back_off_doubles_to_its_cap_and_jitter_takes_up_to_half() -> None:
    policy = RetryPolicy(backoff_s=5.0, backoff_cap_s=60.0)
    assert [delay_s(policy, retries, 0.0) for retries in range(6)] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert delay_s(policy, 0, 0.999) > 2.5
    assert delay_s(policy, 10_000, 0.0) == 60.0
    assert delay_s(RetryPolicy(), 0, 0.0) == 5.0
    assert delay_s(RetryPolicy(backoff_s=0.0), 3, 0.5) == 0.0
    assert delay_s(RetryPolicy(backoff_s=600.0), 0, 0.0) == 600.0


def test_no_try_at_or_behind_the_deadline() -> None:
    assert next_try_at(spec(), run(), NOW, 0.0) == NOW + timedelta(seconds=5)
    assert next_try_at(spec(), run(deadline=NOW + timedelta(seconds=5)), NOW, 0.0) is None


def test_heartbeats_slow_down_with_the_number_of_sessions() -> None:
    timing = Timing()
    assert timing.heartbeat_s(1) == 5.0
    assert timing.heartbeat_s(2_500) == 5.0
    assert timing.heartbeat_s(10_000) == 20.0
    assert timing.lease_s(10_000) == 60.0
    assert timing.loss_margin(600.0) == pytest.approx(31.2)
