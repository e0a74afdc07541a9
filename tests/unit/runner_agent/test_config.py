"""Settings: flags over variables over the file over defaults, and every wrong one named at once."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from runner_agent import config
from runner_agent.config import BadConfig, Settings


def load(*flags: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return config.load(parser.parse_args(flags), {"HOME": "/home/someone", **environ})


def problems(*flags: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(BadConfig) as caught:
        load(*flags, **environ)
    return caught.value.problems


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "runner.toml"
    path.write_text(text)
    return str(path)


def test_defaults() -> None:
    settings = load()
    assert settings.state_dir == Path("/home/someone/.local/state/banksman/runner")
    assert (settings.server, settings.slots, dict(settings.labels)) == ("http://127.0.0.1:7070", 1, {})
    assert settings.name
    assert (settings.insecure, settings.replace, settings.handover) == (False, False, False)


def test_the_state_home_of_the_user_counts() -> None:
    assert load(XDG_STATE_HOME="/var/state").state_dir == Path("/var/state/banksman/runner")
    assert load(XDG_STATE_HOME="relative").state_dir == Path("/home/someone/.local/state/banksman/runner")


def test_flags_win_over_variables_over_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, 'slots = 2\nname = "of-file"\nserver = "http://127.0.0.1:1"\nlabels = {os = "linux"}\n')
    only_file = load("--config", file)
    assert (only_file.slots, only_file.name, dict(only_file.labels)) == (2, "of-file", {"os": "linux"})
    environ = {"BANKSMAN_RUNNER_SLOTS": "3", "BANKSMAN_RUNNER_NAME": "of-environment"}
    both = load("--config", file, **environ)
    assert (both.slots, both.name, both.server) == (3, "of-environment", "http://127.0.0.1:1")
    all_three = load("--config", file, "--slots", "4", "--label", "os=other", "--label", "gpu=", **environ)
    assert (all_three.slots, all_three.name) == (4, "of-environment")
    assert dict(all_three.labels) == {"os": "other", "gpu": ""}


def test_variables_can_say_everything(tmp_path: Path) -> None:
    settings = load(
        BANKSMAN_RUNNER_CONFIG=toml(tmp_path, "slots = 7"),
        BANKSMAN_RUNNER_LABELS="a=1,b=2",
        BANKSMAN_RUNNER_INSECURE="yes",
        BANKSMAN_RUNNER_STATE_DIR=str(tmp_path),
        BANKSMAN_RUNNER_JOIN_TOKEN_FILE="/t",
    )
    assert (settings.slots, dict(settings.labels), settings.insecure) == (7, {"a": "1", "b": "2"}, True)
    assert (settings.state_dir, settings.join_token_file) == (tmp_path, "/t")


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    found = problems(
        "--config",
        toml(tmp_path, "colour = 1"),
        "--slots",
        "0",
        "--name",
        "a/b",
        "--label",
        "no-equals",
        "--label",
        "bad key=1",
        BANKSMAN_RUNNER_MIN_DISK_FREE_BYTES="lots",
        BANKSMAN_RUNNER_SPEED="9",
        BANKSMAN_RUNNER_INSECURE="maybe",
        BANKSMAN_RUNNER_LOG_LEVEL="loud",
    )
    for part in ("colour", "--slots 0", "--name", "no-equals", "bad key", "lots", "SPEED", "insecure", "loud"):
        assert any(part in problem for problem in found), part


@pytest.mark.parametrize(("slots", "good"), [("1", True), ("1024", True), ("1025", False), ("-1", False), ("x", False)])
def test_slots_have_limits(slots: str, good: bool) -> None:
    if good:
        assert load("--slots", slots).slots == int(slots)
    else:
        assert any("--slots" in problem for problem in problems("--slots", slots))


def test_labels_have_a_limit() -> None:
    pairs = [f"--label=k{i}=v" for i in range(33)]
    assert len(load(*pairs[:32]).labels) == 32
    assert any("33 labels" in problem for problem in problems(*pairs))


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a/b"])
def test_bad_names_are_refused_but_an_empty_one_is_the_hosts(name: str) -> None:
    if name:
        assert problems("--name", name)
    else:
        assert load("--name", name).name


@pytest.mark.parametrize("text", ["slots = ", 'labels = "x"', "[labels]\nok = 1\n[more]"])
def test_a_bad_file_is_an_error(tmp_path: Path, text: str) -> None:
    assert problems("--config", toml(tmp_path, text))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read" in problems("--config", str(tmp_path / "none.toml"))[0]


def test_the_join_token_comes_from_a_file_or_standard_input(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(" t0ken\n")
    assert config.read_join_token(load("--join-token-file", str(tmp_path / "token"))) == "t0ken"
    assert config.read_join_token(load("--join-token-stdin"), "piped\n") == "piped"
    assert config.read_join_token(load("--join-token-file", "-"), "piped\n") == "piped"
    assert config.read_join_token(load()) == ""
    with pytest.raises(BadConfig):
        config.read_join_token(load("--join-token-file", str(tmp_path / "none")))


def test_two_sources_of_the_join_token_are_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        load("--join-token-file", "x", "--join-token-stdin")
    assert caught.value.code == 2
