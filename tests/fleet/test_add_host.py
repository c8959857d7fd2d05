"""Adding and removing hosts by command and by page: the one command to paste, who may, and what is said beside it."""

import re
import shlex
from math import inf

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.inventory.removal import remove_host
from fleet.joining import server_key
from fleet.models import EnrolmentToken, Event, EventKind, Host, Origin, Role
from telemetry import wheels
from tests.factories import make_gpu_host
from tests.fleet.candidates import Candidate
from tests.people import signed_in

pytestmark = pytest.mark.django_db

PASTED = re.compile(
    r"python3 -m venv ~/stepwatt-agent && "
    r"~/stepwatt-agent/bin/pip install --quiet --disable-pip-version-check '(?P<wheel>[^']+)' && "
    r"~/stepwatt-agent/bin/stepwatt-agent join (?P<url>\S+) --token (?P<token>\S+) --server-key (?P<key>\S+)"
)


@pytest.fixture
def added(capsys):
    """Return a function that runs add_host and returns (the pasted command's parts, what was said beside it)."""

    def run(*arguments: str) -> tuple[re.Match, str]:
        call_command("add_host", *arguments)
        said = capsys.readouterr()
        parts = PASTED.fullmatch(said.out.removesuffix("\n"))
        assert parts, said.out
        return parts, said.err

    return run


def test_the_command_stands_alone_and_joins_this_server(added, settings):
    settings.STEPWATT_PUBLIC_URL = "https://stepwatt.example.org"

    parts, _ = added("gpu-a01", "--cluster", "atlas", "--label", "rack=r12", "--label", "row=3")

    wheel = wheels.agent_wheel()
    assert parts["wheel"] == f"https://stepwatt.example.org/dist/{wheel.name}#sha256={wheel.sha256}"
    assert (parts["url"], parts["key"]) == ("https://stepwatt.example.org", server_key.fingerprint())
    assert Candidate().join(parts["token"]).status_code == 200
    host = Host.objects.get()
    assert (host.cluster, host.labels) == ("atlas", {"rack": "r12", "row": "3"})


def test_the_command_is_one_for_a_shell(added):
    parts, _ = added("gpu-a01")

    assert shlex.split(parts.string).count("&&") == 2


def test_the_wheel_is_offered_under_the_commands_address(added, settings):
    parts, _ = added("gpu-a01")

    path, sha256 = parts["wheel"].removeprefix(parts["url"]).split("#sha256=")
    assert Client().get(path).status_code == 200
    assert sha256 in Client().get("/dist/").content.decode()


def test_it_says_how_to_run_the_agent(added):
    _, said = added("gpu-a01")

    assert "~/stepwatt-agent/bin/stepwatt-agent run" in said
    assert "print-unit" in said


def test_with_the_embedded_broker_it_says_what_another_host_needs(added):
    _, said = added("gpu-a01")

    for setting in ("STEPWATT_BROKER_URL=rediss://", "STEPWATT_PUBLIC_URL=https://", "STEPWATT_BIND"):
        assert setting in said


REACHED = {"STEPWATT_PUBLIC_URL": "https://stepwatt.example.org", "STEPWATT_BROKER_URL": "rediss://:x@192.0.2.1/0"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"STEPWATT_BROKER_URL": "redis://:x@192.0.2.1/0"}, "STEPWATT_BROKER_URL has no TLS"),
        ({"STEPWATT_BROKER_URL": "rediss://:x@127.0.0.1/0"}, "the server's own machine only"),
        ({"STEPWATT_PUBLIC_URL": "http://localhost:8000"}, "the server's own machine only"),
        ({"STEPWATT_PUBLIC_URL": "http://192.0.2.1:8000"}, "http://192.0.2.1:8000 has no TLS"),
        ({"STEPWATT_BROKER_CA": "/etc/ca.pem"}, "copy that file to the host"),
    ],
)
def test_it_says_what_would_keep_other_hosts_out(added, settings, changes, words):
    for name, value in (REACHED | changes).items():
        setattr(settings, name, value)

    _, said = added("gpu-a01")

    assert (words in said) if words else said.count("\n") == 1


def test_a_server_on_all_addresses_needs_a_name_for_its_hosts(settings):
    settings.STEPWATT_BIND = ("0.0.0.0", 8000)  # noqa: S104

    with pytest.raises(CommandError, match="STEPWATT_PUBLIC_URL"):
        call_command("add_host", "gpu-a01")

    assert not Host.objects.exists()


def test_a_host_that_has_joined_gets_a_new_token_and_a_warning(added):
    parts, _ = added("gpu-a01")
    Candidate().join(parts["token"])

    again, said = added("gpu-a01")

    assert "gpu-a01 has joined before" in said
    assert Candidate().join(again["token"]).status_code == 200


@pytest.mark.parametrize("arguments", [["a b"], ["add"], ["gpu-a01", "--label", "=x"], ["gpu-a01", "--label", "x"]])
def test_what_cannot_be_added_is_refused(arguments):
    with pytest.raises(CommandError):
        call_command("add_host", *arguments)

    assert not Host.objects.exists()


FORM = {"name": "gpu-a01", "cluster": "atlas", "labels": "rack=r12\n\n row = 3 \n"}


def test_an_admin_adds_a_host_by_its_page():
    client = signed_in(Role.ADMIN)

    response = client.post("/hosts/add/", FORM)

    host = Host.objects.get()
    assert (response.status_code, host.cluster, host.labels) == (200, "atlas", {"rack": "r12", "row": "3"})
    assert "no-store" in response.headers["Cache-Control"]
    parts = PASTED.fullmatch(response.context["command"].text)
    assert parts["token"] in response.content.decode()
    assert Candidate().join(parts["token"]).status_code == 200


def test_the_form_is_shown_to_admins():
    page = signed_in(Role.ADMIN).get("/hosts/add/?name=gpu-a01")

    assert 'value="gpu-a01"' in page.content.decode()


@pytest.mark.parametrize(
    ("changes", "field", "status"),
    [({"name": ""}, "name", 400), ({"cluster": "x" * 64}, "cluster", 400), ({"labels": "rack"}, "labels", 400)],
)
def test_a_form_that_cannot_be_is_shown_again_with_its_reason(changes, field, status):
    response = signed_in(Role.ADMIN).post("/hosts/add/", FORM | changes)

    assert (response.status_code, list(response.context["errors"])) == (status, [field])
    assert not EnrolmentToken.objects.exists()


def test_a_page_whose_server_has_no_address_says_which_setting_is_missing(settings):
    client = signed_in(Role.ADMIN)
    settings.STEPWATT_BIND = ("0.0.0.0", 8000)  # noqa: S104

    response = client.post("/hosts/add/", FORM)

    assert response.status_code == 409
    assert "STEPWATT_PUBLIC_URL" in response.content.decode()


REMOVE = "/hosts/gpu-a01/remove/"


@pytest.mark.parametrize("path", ["/hosts/add/", REMOVE])
def test_a_stranger_signs_in_first(path):
    make_gpu_host("gpu-a01")

    assert Client().post(path).url.startswith("/login/?next=")

    assert Host.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
@pytest.mark.parametrize("path", ["/hosts/add/", REMOVE])
def test_only_admins_decide_who_belongs_to_the_fleet(role, path):
    make_gpu_host("gpu-a01")

    assert signed_in(role).post(path, FORM).status_code == 403

    assert not EnrolmentToken.objects.exists()
    assert Host.objects.exists()


def test_a_page_is_held_to_csrf():
    assert signed_in(Role.ADMIN, enforce_csrf_checks=True).post("/hosts/add/", FORM).status_code == 403


def test_an_admin_removes_a_host():
    make_gpu_host("gpu-a01")

    response = signed_in(Role.ADMIN).post(REMOVE, follow=True)

    assert not Host.objects.exists()
    assert "gpu-a01 was removed." in response.content.decode()
    assert Event.objects.get().kind == EventKind.HOST_REMOVED


def test_a_host_that_is_none_cannot_be_removed():
    assert signed_in(Role.ADMIN).post(REMOVE).status_code == 404


def test_a_link_removes_nothing():
    make_gpu_host("gpu-a01")

    assert signed_in(Role.ADMIN).get(REMOVE).status_code == 405


@pytest.mark.parametrize(("role", "shown"), [(Role.ADMIN, True), (Role.OPERATOR, False)])
def test_a_hosts_page_ends_with_its_removal_for_admins(role, shown):
    make_gpu_host("gpu-a01")

    page = signed_in(role).get("/hosts/gpu-a01/").content.decode()

    assert (f'action="{REMOVE}"' in page) == shown


@pytest.mark.parametrize(("role", "shown"), [(Role.ADMIN, True), (Role.OPERATOR, False)])
@pytest.mark.parametrize("is_empty", [True, False])
def test_the_list_of_hosts_leads_admins_to_a_new_one(role, shown, is_empty):
    if not is_empty:
        make_gpu_host("gpu-a01")

    assert ('href="/hosts/add/"' in signed_in(role).get("/hosts/").content.decode()) == shown


def test_a_host_that_was_only_added_is_no_agent_that_fails_to_report():
    make_gpu_host("gpu-a01")
    call_command("add_host", "gpu-a02")

    assert "1 of 1 agent" in signed_in().get("/fleet/agents/").content.decode()


def test_the_command_removes_a_host_whose_name_is_typed(monkeypatch, capsys):
    make_gpu_host("gpu-a01")
    monkeypatch.setattr("builtins.input", lambda _: "gpu-a01")

    call_command("remove_host", "gpu-a01")

    assert not Host.objects.exists()
    assert capsys.readouterr().out == "gpu-a01 was removed\n"


def no_terminal(question: str) -> str:
    raise EOFError


@pytest.mark.parametrize("answer", [lambda _: "y", no_terminal], ids=["another word", "nobody there"])
def test_the_command_removes_nothing_without_it(monkeypatch, answer):
    make_gpu_host("gpu-a01")
    monkeypatch.setattr("builtins.input", answer)

    with pytest.raises(CommandError, match="nothing was removed"):
        call_command("remove_host", "gpu-a01")

    assert Host.objects.exists()


@pytest.mark.parametrize("origin", Origin)
def test_hosts_of_every_origin_can_be_removed(origin):
    make_gpu_host("gpu-a01", origin=origin)

    call_command("remove_host", "gpu-a01", "--yes")

    assert not Host.objects.exists()


def test_an_unknown_host_is_named():
    with pytest.raises(CommandError, match="there is no host named 'gpu-a01'"):
        call_command("remove_host", "gpu-a01", "--yes")


def test_a_host_whose_removal_was_stopped_is_told_from_one_that_never_was(capsys):
    remove_host(make_gpu_host("gpu-a01"), Actor("ada"), timezone.now(), deadline=-inf)
    assert Host.every.exists()

    with pytest.raises(CommandError, match="there is no host named 'gpu-a1'"):
        call_command("remove_host", "gpu-a1", "--yes")
    assert Host.every.exists()
    call_command("remove_host", "gpu-a01", "--yes")

    assert not Host.every.exists()
    assert "gpu-a01 was removed before" in capsys.readouterr().out
