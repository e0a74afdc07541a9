"""The words of `banksman-run` become the lines of the socket, or an exit code that says what is wrong."""

from __future__ import annotations

import pathlib

import pytest

from runner_agent.shim.inside import Misused, Refused, main, message_of


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("progress 40", {"type": "progress", "percent": 40.0}),
        ("progress 40% compiling", {"type": "progress", "percent": 40.0, "stage": "compiling"}),
        ("progress - linking --note soon", {"type": "progress", "stage": "linking", "note": "soon"}),
        ("progress --note soon 7.5", {"type": "progress", "percent": 7.5, "note": "soon"}),
        ("add-mask secretive", {"type": "add_mask", "value": "secretive"}),
    ],
)
def test_words(words: str, message: dict[str, object]) -> None:
    assert message_of(words.split()) == message


@pytest.mark.parametrize(
    "words", ["", "progress", "progress forty", "progress 1 a b", "progress 1 --note", "result", "add-mask", "stop"]
)
def test_other_words_are_a_mistake(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Misused):
        message_of(words.split())
    assert main(words.split()) == 2
    assert "usage: banksman-run" in capsys.readouterr().err


def test_a_result_is_read_from_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "result"
    path.write_text('{"a": [1]}')
    assert message_of(["result", str(path)]) == {"type": "result", "value": {"a": [1]}}
    path.write_text("{")
    with pytest.raises(Refused, match="not JSON"):
        message_of(["result", str(path)])


def test_nobody_listens(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BANKSMAN_SOCKET", raising=False)
    assert main(["progress", "1"]) == 1
    monkeypatch.setenv("BANKSMAN_SOCKET", str(tmp_path / "none"))
    assert main(["progress", "1"]) == 1
    assert main(["result", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("banksman-run: ") == 3
    assert main(["--help"]) == 0
    assert "progress PERCENT" in capsys.readouterr().out
