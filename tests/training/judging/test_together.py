"""Verdicts of distributed jobs: their alert, their row in the matrix and in its file. Their subject is the set of hosts."""

import csv
import io
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.access.audit import Actor
from fleet.models import Event, Host
from telemetry.events import attention
from telemetry.health.watch import watch
from tests.training.judging.judged import NOW, SPREAD, board, judged, result, together
from tests.training.pages import text
from training.judging import acceptance, suspicion
from training.judging.acceptance import NotAcceptable
from training.judging.judge import judge
from training.models import FreshRun, JobState, LossAgreement, Outcome, ReferenceJob, Team, Verdict

pytestmark = pytest.mark.django_db
ADA = Actor("ada")


def alerts() -> list[Event]:
    return list(Event.objects.filter(rule="below_baseline", resolved_at=None))


def slow(verdict: Verdict, **fields: object) -> Verdict:
    test = {"own/step_seconds_median": {"slowdown": 0.12, "is_slow": True}}
    told = {"outcome": Outcome.SLOW, "reason": "5 fresh runs", "confirmation": test} | fields
    Verdict.objects.filter(pk=verdict.pk).update(**told)
    return verdict


def test_a_slow_distributed_job_is_an_alert_of_its_hosts_and_of_no_single_device():
    verdict = slow(together([board("b"), board("a")]), cause={"words": "its clock fell"})

    watch(NOW + timedelta(minutes=1))

    (event,) = alerts()
    assert (event.subject, event.host, event.device) == ("hosts:a,b", None, None)
    assert event.text == "gpt-train over 2 ranks, 5 fresh runs"
    assert event.detail["values"] == {
        "slowdown_ratio": 0.12, "job": float(verdict.job_id), "likely_cause": "its clock fell",
    }  # fmt: skip
    assert "which rank the others wait for" in event.detail["action"]


def on_page(viewer, host: str) -> str:
    return text(viewer.get(f"/hosts/{host}/", headers={"HX-Request": "true"}))


def test_the_alert_stands_on_the_page_of_each_of_its_hosts_as_the_sets_and_on_no_others(viewer):
    slow(together([board("a"), board("b")]))
    board("c")
    watch(NOW + timedelta(minutes=1))
    (event,) = alerts()

    for name in "ab":
        shown = on_page(viewer, name)
        assert "hosts a,b: gpt-train over 2 ranks, 5 fresh runs" in shown
        assert "of these hosts together" in shown
        assert "of hosts a,b together" in shown
    assert f'href="/events/?event={event.pk}"' in viewer.get("/hosts/a/").content.decode()
    assert "gpt-train" not in on_page(viewer, "c")
    assert Host.objects.count() == 3


def test_it_makes_none_of_its_hosts_ill(viewer):
    slow(together([board("a"), board("b")]))
    before = viewer.get("/api/v1/hosts/a").json()["health"]

    watch(NOW + timedelta(minutes=1))

    assert viewer.get("/api/v1/hosts/a").json()["health"] == before


def test_its_hosts_and_its_clusters_find_it_and_others_do_not(viewer):
    pair = [board("a"), board("b")]
    Host.objects.filter(name="b").update(cluster="atlas")
    slow(together(pair))
    Host.objects.filter(pk=board("c").pk).update(cluster="borealis")
    watch(NOW + timedelta(minutes=1))

    found = {name: viewer.get(f"/api/v1/events?host={name}&rule=below_baseline").json()["count"] for name in "abc"}
    assert found == {"a": 1, "b": 1, "c": 0}
    (line,) = attention.of_cluster("atlas")
    assert line.title == "hosts a,b: gpt-train over 2 ranks, 5 fresh runs"
    assert attention.of_cluster("borealis") == []


def test_an_alert_of_an_earlier_release_comes_to_know_its_hosts():
    slow(together([board("a"), board("b")]))
    watch(NOW)
    alerts()[0].hosts.clear()

    watch(NOW + timedelta(minutes=2))

    assert sorted(host.name for host in alerts()[0].hosts.all()) == ["a", "b"]


def test_losses_of_a_distributed_job_that_differ_accuse_its_hosts_and_take_no_device_out_of_work():
    Verdict.objects.filter(pk=together([board("b"), board("a")]).pk).update(agreement=LossAgreement.DIFFERS)

    watch(NOW + timedelta(minutes=1))

    event = Event.objects.get(rule="silent_corruption")
    assert event.subject == "hosts:a,b"
    assert "on each of the hosts alone" in event.detail["action"]
    assert "take the device out" not in event.detail["action"]


def test_a_set_is_one_subject_whichever_of_its_devices_is_rank_0s():
    pair = [board("a"), board("b")]
    slow(together(pair, minutes=-60))
    slow(together(pair[::-1]), outcome=Outcome.PASS)

    watch(NOW + timedelta(minutes=1))

    assert alerts() == []


def run_again(verdict: Verdict, minute: float) -> None:
    """Have the next fresh run launched, and end it a fifth slower, with rank 1 computing longest."""
    Host.objects.update(heard_at=NOW + timedelta(minutes=minute))
    suspicion.follow(NOW + timedelta(minutes=minute))
    head = FreshRun.objects.order_by("-pk").first().job
    ended = NOW + timedelta(minutes=minute)
    done = {"state": JobState.DONE, "energy": {"reason": "none"}, "started_at": ended, "ended_at": ended}
    for rank in head.team.jobs.all():
        measured = result(1.2 + minute / 1000, compute_seconds_median=1.0 + rank.rank)
        ReferenceJob.objects.filter(pk=rank.pk).update(result=measured, **done)
    Team.objects.update(is_settled=True)
    judge(ReferenceJob.objects.get(pk=head.pk), ended)


@pytest.mark.usefixtures("outbox")
def test_a_suspicion_is_confirmed_by_fresh_distributed_runs_and_the_rank_that_all_waited_for_is_named():
    pair = [board("a"), board("b")]
    for minute in range(10):
        together(pair, SPREAD[minute], minute - 100)
    verdict = together(pair, 1.2)
    assert suspicion.open_suspicion(verdict, NOW)
    for minute in range(1, 6):
        run_again(verdict, minute)
    suspicion.follow(NOW + timedelta(minutes=7))

    verdict.refresh_from_db()

    assert verdict.outcome == Outcome.SLOW
    assert verdict.fresh_runs.count() == 5
    assert verdict.cause["words"].startswith("rank 1 on b, which computed longest: ")
    assert verdict.cause["beside"].endswith(" on b")
    watch(NOW + timedelta(minutes=8))
    assert [event.subject for event in alerts()] == ["hosts:a,b"]


def test_a_later_pass_of_the_same_hosts_ends_it_and_one_of_others_does_not():
    pair = [board("a"), board("b")]
    slow(together(pair, minutes=-60))
    watch(NOW)
    slow(together([pair[0], board("c")]), outcome=Outcome.PASS)
    for minute in (1, 3):
        watch(NOW + timedelta(minutes=minute))
    assert [event.subject for event in alerts()] == ["hosts:a,b"]

    slow(together(pair, minutes=4), outcome=Outcome.PASS)
    for minute in (5, 7):
        watch(NOW + timedelta(minutes=minute))

    assert alerts() == []


def test_many_hosts_have_a_short_name_that_tells_their_set_from_others():
    hosts = [board(f"accelerator-node-{number:03}") for number in range(12)]
    slow(together(hosts))
    slow(together([*hosts[:5], *hosts[6:]]))

    watch(NOW + timedelta(minutes=1))

    names = {event.subject.partition(",")[0] for event in alerts()}
    assert names == {"hosts:accelerator-node-000 to accelerator-node-011"}
    assert len({event.subject for event in alerts()}) == 2


def test_a_set_of_which_a_host_was_removed_is_alarmed_about_no_more():
    pair = [board("a"), board("b")]
    slow(together(pair))
    pair[1].delete()

    watch(NOW + timedelta(minutes=1))

    assert alerts() == []


def test_it_has_a_row_of_its_own_in_the_matrix_beside_those_of_its_hosts(viewer):
    pair = [board("a"), board("b")]
    for minute in range(10):
        together(pair, SPREAD[minute], minute - 100)
    verdict = together(pair, 1.04)

    matrix = viewer.get("/reference/matrix/")

    (row,) = matrix.context["matrix"].together
    assert (row.name, [cell.job_id for cell in row.cells]) == ("a, b", [verdict.job_id])
    assert row.cells[0].screened.n == 10
    assert "Distributed jobs" in text(matrix)
    assert f'href="/reference/{verdict.job_id}/"' in matrix.content.decode()
    assert [row.cells for group in matrix.context["matrix"].groups for row in group.rows] == [[None], [None]]


def test_the_matrix_asks_as_often_for_many_sets_as_for_few(viewer):
    def n_queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            viewer.get("/reference/matrix/")
        return len(captured)

    hosts = [board(name) for name in "abcdef"]
    together(hosts[:2])
    few = n_queries()
    for number in range(2, 6):
        together(hosts[: number + 1])

    assert n_queries() == few


def test_the_file_names_all_hosts_and_the_number_of_ranks(viewer):
    together([board("b"), board("a")])
    judged(board("c"))

    rows = list(csv.DictReader(io.StringIO(viewer.get("/reference/results.csv").content.decode())))

    assert [(row["host"], row["ranks"], bool(row["device"])) for row in rows] == [("c", "", True), ("a b", "2", False)]


def test_the_file_names_each_cluster_of_a_set_once(viewer):
    hosts = [board(name) for name in "abcd"]
    for host, cluster in zip(hosts, ("borealis", "atlas", "borealis", ""), strict=True):
        Host.objects.filter(pk=host.pk).update(cluster=cluster)
    together(hosts)

    (row,) = csv.DictReader(io.StringIO(viewer.get("/reference/results.csv").content.decode()))

    assert row["cluster"] == "atlas, borealis"


def test_a_cluster_shows_the_sets_that_lie_in_it(viewer):
    inside, outside = [board(name) for name in "ab"], board("c")
    for host in inside:
        host.cluster = "atlas"
        host.save()
    together(inside)
    together([inside[0], outside])

    found = viewer.get("/reference/matrix/?cluster=atlas").context["matrix"]

    assert [row.name for row in found.together] == ["a, b"]


def test_a_distributed_result_is_accepted_for_its_kind_of_run_alone():
    verdict = together([board("a"), board("b")])
    with pytest.raises(NotAcceptable, match="no single device"):
        acceptance.accept(verdict, "a new switch", is_for_all=True, actor=ADA, now=NOW)

    assert acceptance.accept(verdict, "a new switch", is_for_all=False, actor=ADA, now=NOW).key == verdict.key


def test_what_is_accepted_of_one_set_changes_nothing_for_another_with_the_same_rank_0():
    a, b, c = (board(name) for name in "abc")
    for minute in range(10):
        together([a, b], SPREAD[minute], minute - 100)
        together([a, c], SPREAD[minute], minute - 100)
    accepted = together([b, a], 1.3, -1)
    acceptance.accept(accepted, "a new switch", is_for_all=False, actor=ADA, now=NOW)

    same, other = together([a, b], 1.3), together([a, c], 1.3)

    assert [row["n"] for row in same.screens if row["side"] == "own"] == [1]
    assert [row["n"] for row in other.screens if row["side"] == "own"] == [10]
    assert other.outcome == Outcome.SUSPECT


def test_what_is_accepted_of_a_device_changes_nothing_for_the_distributed_jobs_that_it_leads():
    pair = [board("a"), board("b")]
    for minute in range(10):
        together(pair, SPREAD[minute], minute - 100)
    acceptance.accept(judged(pair[0], minutes=-1), "repaired", is_for_all=True, actor=ADA, now=NOW)

    verdict = together(pair, 1.3)

    assert [row["n"] for row in verdict.screens if row["side"] == "own"] == [10]


def test_a_set_that_is_known_as_slow_is_not_proved_again_and_another_is():
    a, b, c = (board(name) for name in "abc")
    for minute in range(10):
        together([a, b], SPREAD[minute], minute - 100)
        together([a, c], SPREAD[minute], minute - 100)
    slow(together([a, b], 1.3, -1), settled_at=NOW)

    assert not suspicion.open_suspicion(together([b, a], 1.3), NOW + timedelta(minutes=1))
    assert suspicion.open_suspicion(together([a, c], 1.3), NOW + timedelta(minutes=1))
