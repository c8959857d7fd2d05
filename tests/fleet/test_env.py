"""Reading settings: right values, and refusals that name the variable."""

import pytest

from fleet.environment.env import Environment, EnvironmentInvalid, load_dotenv


def env(**values: str) -> Environment:
    return Environment({f"STEPWATT_{name}": value for name, value in values.items()})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21_600), ("7d", 604_800), ("1y", 31_536_000)]
)
def test_a_duration_is_read(text, seconds):
    assert env(RETENTION_RAW=text).duration("STEPWATT_RETENTION_RAW", "1d") == seconds


def test_an_unset_or_empty_variable_gives_the_default():
    assert env().bind("STEPWATT_BIND", "127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert env(PUE="").optional_number("STEPWATT_PUE") is None


def test_an_ipv6_address_stands_in_brackets():
    assert env(BIND="[::1]:8000").bind("STEPWATT_BIND", "") == ("::1", 8000)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda e, name: e.duration(name, "1d"), "7 days"),
        (lambda e, name: e.optional_number(name), "cheap"),
        (lambda e, name: e.optional_number(name, minimum=1.0), "0.5"),
        (lambda e, name: e.optional_number(name), "inf"),
        (lambda e, name: e.number(name, 1, minimum=0, maximum=10), "11"),
        (lambda e, name: e.whole_number(name, 1, minimum=1, maximum=10), "1.5"),
        (lambda e, name: e.boolean(name, default=False), "maybe"),
        (lambda e, name: e.bind(name, ""), "8000"),
        (lambda e, name: e.bind(name, ""), "127.0.0.1:99999"),
        (lambda e, name: e.choice(name, "a", ("a", "b")), "c"),
        (lambda e, name: e.url(name, ("redis",)), "mysql://x"),
    ],
)
def test_what_cannot_be_read_fails_with_the_variables_name(read, value):
    with pytest.raises(EnvironmentInvalid, match="STEPWATT_X"):
        read(env(X=value), "STEPWATT_X")


def test_the_refusal_of_a_url_does_not_show_its_password():
    with pytest.raises(EnvironmentInvalid) as refused:
        env(BROKER_URL="mysql://me:geheim@host").url("STEPWATT_BROKER_URL", ("redis",))
    assert "geheim" not in str(refused.value)


def test_a_secret_may_stand_in_a_file(tmp_path):
    (tmp_path / "url").write_text("redis://x\n")

    assert env(BROKER_URL_FILE=str(tmp_path / "url")).text("STEPWATT_BROKER_URL") == "redis://x"


def test_a_secret_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(EnvironmentInvalid, match="STEPWATT_BROKER_URL_FILE"):
        env(BROKER_URL_FILE=str(tmp_path / "none")).text("STEPWATT_BROKER_URL")


def test_a_dotenv_file_is_read_and_a_bad_line_is_named(tmp_path):
    file = tmp_path / ".env"
    file.write_text("# comment\nexport STEPWATT_BIND='127.0.0.1:9000'\n\nSTEPWATT_CURRENCY=EUR\n")
    assert load_dotenv(file) == {"STEPWATT_BIND": "127.0.0.1:9000", "STEPWATT_CURRENCY": "EUR"}

    file.write_text("STEPWATT_BIND=x\nnonsense\n")
    with pytest.raises(EnvironmentInvalid, match="line 2"):
        load_dotenv(file)


def test_a_named_file_is_an_absolute_path_that_can_be_read(tmp_path, monkeypatch):
    (tmp_path / "ca.pem").touch()
    monkeypatch.chdir(tmp_path)

    assert env(BROKER_CA="ca.pem").file("STEPWATT_BROKER_CA") == str(tmp_path / "ca.pem")
    assert env().file("STEPWATT_BROKER_CA") == ""
    with pytest.raises(EnvironmentInvalid, match="STEPWATT_BROKER_CA=none: cannot be read"):
        env(BROKER_CA="none").file("STEPWATT_BROKER_CA")
