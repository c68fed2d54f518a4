"""Settings from the environment."""

from __future__ import annotations

import pytest

from buttdial_sync.errors import ConfigError
from buttdial_sync.settings import Settings, check_token_in, load_settings


def test_everything_is_read() -> None:
    """Each variable fills its field."""
    found = load_settings(
        {
            "BUTT_DIAL_BASE_URL": "https://a.example",
            "BUTT_DIAL_AGENT_ID": "agent-1",
            "BUTT_DIAL_AGENT_TOKEN": "agent-secret",
            "BUTT_DIAL_TEAM_TOKEN": "team-secret",
            "BUTT_DIAL_TOKEN_IN": "query",
        }
    )
    assert found == Settings(
        base_url="https://a.example",
        agent_id="agent-1",
        agent_token="agent-secret",
        team_token="team-secret",
        token_in="query",
    )


def test_nothing_is_there() -> None:
    """An empty environment gives empty settings, and the tests' own environment is empty."""
    assert load_settings({}) == load_settings() == Settings()


def test_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping ``os.environ`` is read."""
    monkeypatch.setenv("BUTT_DIAL_AGENT_ID", "agent-1")
    assert load_settings().agent_id == "agent-1"


@pytest.mark.parametrize(
    ("environ", "base_url"),
    [
        ({"BUTT_DIAL_URL": "https://old.example"}, "https://old.example"),
        ({"BUTT_DIAL_URL": "https://old.example", "BUTT_DIAL_BASE_URL": "https://new"}, "https://new"),
        ({"BUTT_DIAL_URL": "https://old.example", "BUTT_DIAL_BASE_URL": " "}, "https://old.example"),
        ({"BUTT_DIAL_BASE_URL": "  https://a.example\n"}, "https://a.example"),
        ({"BUTT_DIAL_BASE_URL": ""}, None),
    ],
)  # fmt: skip
def test_base_url(environ: dict[str, str], base_url: str | None) -> None:
    """The first variable that is not blank wins, and blanks around a value do not count."""
    assert load_settings(environ).base_url == base_url


def test_secrets_are_not_shown() -> None:
    """The ``repr`` holds no token."""
    shown = repr(Settings(agent_token="agent-secret", team_token="team-secret"))
    assert "secret" not in shown


@pytest.mark.parametrize("value", ["auto", "header", "query", None])
def test_token_in(value: str | None) -> None:
    """The three places, and none, are taken as they are."""
    assert check_token_in(value, "x") == value


def test_wrong_token_in_names_the_variable() -> None:
    """A typing mistake in the environment is reported under the variable's name."""
    with pytest.raises(ConfigError, match="BUTT_DIAL_TOKEN_IN"):
        load_settings({"BUTT_DIAL_TOKEN_IN": "Header"})


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("BUTT_DIAL_TOEKN_IN", "BUTT_DIAL_TOKEN_IN"),
        ("BUTT_DIAL_AGENT_TOKN", "BUTT_DIAL_AGENT_TOKEN"),
        ("BUTTDIAL_BASE_URL", "BUTT_DIAL_BASE_URL"),
    ],
)
def test_a_misspelt_variable(misspelt: str, meant: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the setting, and not the value, which may be a token."""
    assert load_settings({misspelt: "secret-1"}) == Settings()
    assert caplog.messages == [f"{misspelt} is not a setting: did you mean {meant}?"]


@pytest.mark.parametrize(
    "environ",
    [
        {"BUTT_DIAL_AGENT_ID": "a", "BUTT_DIAL_AGENT_IDS": "b"},  # the setting is there
        {"BUTT_DIAL_AGENT_ID_2": "the host's own"},
        {"BUTT_DIAL_WEBHOOK_SECRET": "s", "BASE_URL": "x", "PATH": "/bin"},
    ],
)
def test_other_variables(environ: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of what is the host's."""
    load_settings(environ)
    assert caplog.messages == []


@pytest.mark.parametrize(("value", "advice"), [("headr", "Did you mean 'header'?"), ("x", None)])
def test_a_misspelt_value(value: str, advice: str | None) -> None:
    """The nearest value is named, if one is near."""
    with pytest.raises(ConfigError) as caught:
        load_settings({"BUTT_DIAL_TOKEN_IN": value})
    assert caught.value.remediation == advice
