"""Settings: who wins, and that everything wrong is named at once."""

import re
from pathlib import Path

import pytest

from control_plane.config import KEYS, ConfigError, load


def test_flags_win_over_environment_over_file_over_defaults(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('listen = "127.0.0.1:1"\nstate_dir = "/from/file"\nmax_sessions = 7\nrun_keep_s = 60\n')
    environment = {"BANKSMAN_SERVER_LISTEN": "127.0.0.1:2", "BANKSMAN_SERVER_STATE_DIR": "/from/environment"}
    settings = load({"state_dir": "/from/flag", "listen": None}, environment, str(file))
    assert settings.state_dir == "/from/flag"
    assert settings.listen == "127.0.0.1:2"
    assert (settings.max_sessions, settings.run_keep_s) == (7, 60.0)
    assert settings.log_level == "info"


def test_the_file_may_be_named_by_the_environment(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text("max_sessions = 3\n")
    assert load({}, {"BANKSMAN_SERVER_CONFIG": str(file)}).max_sessions == 3


def test_every_problem_is_named_in_one_error(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('colour = "red"\ninsecure = 1\n')
    environment = {"BANKSMAN_SERVER_SHAPE": "round", "BANKSMAN_SERVER_MAX_SESSIONS": "many"}
    with pytest.raises(ConfigError) as caught:
        load({}, environment, str(file))
    for words in ("'colour'", "'shape'", "insecure", "max_sessions"):
        assert words in str(caught.value)


@pytest.mark.parametrize("listen", ["", "7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", ":7070"])
def test_an_address_that_is_none_is_refused(listen):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        load({"listen": listen}, {})


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:7070", "[::1]:7070", "127.9.9.9:65535"])
def test_loopback_needs_no_flag(listen):
    assert load({"listen": listen}, {}).listen == listen


@pytest.mark.parametrize("listen", ["0.0.0.0:7070", "[::]:7070", "10.0.0.1:7070", "build.example:7070"])
def test_plain_text_off_loopback_needs_the_flag(listen):
    with pytest.raises(ConfigError, match="--insecure"):
        load({"listen": listen}, {})
    assert load({"listen": listen, "insecure": True}, {}).insecure


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_numbers_must_be_positive_and_finite(value):
    with pytest.raises(ConfigError, match="stop_grace_s"):
        load({}, {"BANKSMAN_SERVER_STOP_GRACE_S": value})


def test_a_margin_that_is_too_short_needs_the_testing_setting():
    with pytest.raises(ConfigError, match="loss_margin_s"):
        load({}, {"BANKSMAN_SERVER_LOSS_MARGIN_S": "1"})
    short = {"BANKSMAN_SERVER_LOSS_MARGIN_S": "1", "BANKSMAN_SERVER_TESTING": "true"}
    assert load({}, short).timing().loss_margin_s == 1.0


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load({}, {}, str(tmp_path / "absent.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("= 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load({}, {}, str(broken))


def test_state_lives_under_xdg_state_home_by_default():
    assert load({}, {"XDG_STATE_HOME": "/var/x"}).state_dir == "/var/x/banksman/server"


def test_every_setting_is_in_the_manual_and_no_other():
    page = (Path(__file__).resolve().parents[3] / "docs" / "server.md").read_text()
    table = page.partition("| setting |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(KEYS)


def test_fonts_that_are_named_must_be_there(tmp_path):
    font = tmp_path / "a.ttf"
    font.touch()
    with pytest.raises(ConfigError, match=r"report_fonts: there is no file '/no/such\.ttf'"):
        load({"report_fonts": f"{font}, /no/such.ttf"}, {})
    assert load({"report_fonts": str(font)}, {}).report_fonts == str(font)
