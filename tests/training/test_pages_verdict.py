"""What the pages show of verdicts: the job's panel, the matrix, its file, a host's trend."""

import csv
import io

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.models import AuditEntry, Host
from tests.training.judging.judged import PARAMS, board, finished, judged, with_history
from tests.training.pages import text
from tests.training.reference_jobs import existing_job
from training.models import JobState, LadderProcess, LadderRun, LossAgreement, Outcome, Verdict

pytestmark = pytest.mark.django_db
SOUND = [5.0 * 0.97**step for step in range(30)]
PATHS = ["/reference/matrix/", "/reference/results.csv", "/reference/hosts/a/", "/reference/1/verdict/"]


def told(verdict: Verdict, **fields: object) -> Verdict:
    Verdict.objects.filter(pk=verdict.pk).update(**fields)
    return verdict


def page(client, path: str) -> str:
    return text(client.get(path))


def test_the_panel_says_the_outcome_and_what_it_was_compared_with(viewer):
    verdict = judged(with_history(board("a")), 1.2)

    shown = page(viewer, f"/reference/{verdict.job_id}/verdict/")

    assert "suspect" in shown
    assert "its own history" in shown
    assert "−16.7 %" in shown.replace("\u202f", " ").replace("−16.7%", "−16.7 %")


def test_the_panel_names_the_likely_cause(viewer):
    cause = {
        "words": "its clock fell",
        "beside": "job 3 on b",
        "found": [{"words": "its clock fell", "evidence": "SM clock 900 MHz"}],
    }
    verdict = told(judged(board("a")), outcome=Outcome.SLOW, cause=cause)

    shown = page(viewer, f"/reference/{verdict.job_id}/verdict/")

    assert "Likely cause: its clock fell" in shown
    assert "SM clock 900 MHz" in shown


def test_differing_losses_stand_on_the_page_with_both_curves(viewer):
    for name in "bc":
        judged(board(name), losses=SOUND)
    verdict = judged(board("a"), losses=[loss * (1.3 if step > 9 else 1) for step, loss in enumerate(SOUND)])

    response = viewer.get(f"/reference/{verdict.job_id}/")

    assert "Possible silent corruption" in page(viewer, f"/reference/{verdict.job_id}/verdict/")
    assert [len(trace["y"]) for trace in response.context["losses"]["data"]] == [30, 30]


def test_the_live_chart_has_the_baseline_to_run_against(viewer):
    host = with_history(board("a"))
    job = existing_job(host, JobState.RUNNING, params=PARAMS)

    layout = viewer.get(f"/reference/{job.pk}/").context["figure"]["layout"]

    assert [note["text"].replace("\u202f", " ") for note in layout["annotations"]] == ["baseline 1 s, n 10"]


def test_too_few_earlier_runs_are_no_line(viewer):
    host = with_history(board("a"), 4)
    job = existing_job(host, JobState.RUNNING, params=PARAMS)

    assert "annotations" not in viewer.get(f"/reference/{job.pk}/").context["figure"]["layout"]


def test_a_job_without_a_verdict_has_no_panel(viewer):
    assert page(viewer, f"/reference/{finished(board('a')).pk}/verdict/").strip() == ""


def test_an_operator_has_a_result_confirmed(operator):
    verdict = judged(with_history(board("a")))

    answer = operator.post(f"/reference/{verdict.job_id}/confirm/")

    assert answer.status_code == 302
    assert Verdict.objects.get(pk=verdict.pk).is_open
    assert AuditEntry.objects.filter(action="reference.confirm").count() == 1
    assert operator.post(f"/reference/{verdict.job_id}/confirm/").status_code == 409


def test_an_operator_accepts_a_result_as_the_new_baseline_and_the_page_says_so(operator):
    verdict = judged(with_history(board("a")), 1.2)
    path = f"/reference/{verdict.job_id}"
    assert "Accept as the new baseline" in page(operator, f"{path}/verdict/")

    answer = operator.post(f"{path}/accept/", {"reason": "driver 590", "for": "device"})

    assert answer.url == f"{path}/"
    shown = page(operator, f"{path}/verdict/")
    assert "accepted as the new baseline of all workloads of the device by" in shown
    assert "driver 590" in shown
    assert "Accept as the new baseline" not in shown
    assert operator.post(f"{path}/accept/", {"reason": "again"}).status_code == 409
    (_, figure), *_ = operator.get("/reference/hosts/a/?workload=gpt-train").context["trends"]
    assert [note["text"] for note in figure["layout"]["annotations"]][-1] == "new baseline"


def test_a_viewer_accepts_nothing(viewer):
    verdict = judged(board("a"))

    assert "Accept as the new baseline" not in page(viewer, f"/reference/{verdict.job_id}/verdict/")
    assert viewer.post(f"/reference/{verdict.job_id}/accept/", {"reason": "repair"}).status_code == 403


def test_a_viewer_may_not_and_a_job_without_a_verdict_cannot_be_confirmed(viewer, operator):
    verdict = judged(board("a"))

    assert viewer.post(f"/reference/{verdict.job_id}/confirm/").status_code == 403
    assert operator.post(f"/reference/{finished(board('b')).pk}/confirm/").status_code == 404
    assert operator.post(f"/reference/{'9' * 30}/confirm/").status_code == 404


def test_the_matrix_shows_each_hosts_newest_run_and_what_has_not_run(viewer):
    judged(with_history(board("a")), 1.04)
    board("b")

    shown = page(viewer, "/reference/matrix/")

    assert "−3.8 %" in shown.replace("−3.8%", "−3.8 %")
    assert "n 10" in shown
    assert "not run" in shown


def test_a_ladders_processes_do_not_stand_in_the_matrix(viewer):
    verdict = judged(board("a"))
    run = LadderRun.objects.create(workload="gpt-train", host=verdict.job.host, rungs=[], order=[], requested_by="ada")
    LadderProcess.objects.create(ladder=run, block=0, rung=0, job=verdict.job)

    assert "No result has been judged yet" in page(viewer, "/reference/matrix/")


def test_the_matrix_is_split_by_mode(viewer):
    judged(board("a"), params={"compile": "on"})

    assert "no baseline" in page(viewer, "/reference/matrix/?mode=compile")
    assert "No result has been judged yet" in page(viewer, "/reference/matrix/?mode=eager")


def test_the_matrix_asks_as_often_for_many_hosts_as_for_few(viewer):
    def n_queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            viewer.get("/reference/matrix/")
        return len(captured)

    judged(board("a"))
    few = n_queries()
    for name in "bcdefgh":
        judged(board(name))

    assert n_queries() == few


def test_the_file_has_a_row_for_each_host_and_workload(viewer):
    judged(with_history(board("a")), 1.2)

    rows = list(csv.DictReader(io.StringIO(viewer.get("/reference/results.csv").content.decode())))

    assert [(row["host"], row["workload"], row["outcome"], row["n"]) for row in rows] == [
        ("a", "gpt-train", "suspect", "10")
    ]
    assert float(rows[0]["deviation"]) == pytest.approx(-1 / 6, abs=0.01)


def test_no_text_of_the_file_is_a_formula(viewer):
    verdict = judged(board("a"))
    told(verdict, reason="=HYPERLINK()", agreement=LossAgreement.SAME)

    assert "'=HYPERLINK()" in viewer.get("/reference/results.csv").content.decode()


def test_the_trend_draws_every_run_and_lasting_changes(viewer):
    host = board("a")
    for minute in range(40):
        judged(host, (1.0 if minute < 20 else 1.2) * (1 + minute % 3 / 100), minute - 100)

    (_, figure), *_ = viewer.get("/reference/hosts/a/?workload=gpt-train").context["trends"]

    assert len(figure["data"][0]["x"]) == 40
    assert any("+2" in note["text"] or "+19" in note["text"] for note in figure["layout"]["annotations"])


@pytest.mark.parametrize(
    "path",
    [
        "/reference/matrix/?mode=none",
        "/reference/hosts/nobody/",
        "/reference/hosts/a/?workload=none",
        "/reference/99/verdict/",
    ],
)
def test_what_does_not_exist_is_not_found(viewer, path):
    Host.objects.create(name="a")

    assert viewer.get(path).status_code == 404


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_a_login(client, path):
    assert client.get(path).status_code == 302


def test_the_line_of_a_trend_is_the_median_of_its_clean_runs(viewer):
    host = board("a")
    for minute, seconds in enumerate([1.0, 1.2, 1.4, 1.6]):
        judged(host, seconds, minute)

    (_, figure), *_ = viewer.get("/reference/hosts/a/?workload=gpt-train").context["trends"]

    assert figure["layout"]["shapes"][0]["y0"] == pytest.approx(1.3)


def test_a_job_that_runs_on_after_all_shows_no_verdict_of_its_loss(viewer):
    verdict = told(judged(board("a")), outcome=Outcome.FAILED, reason="not heard of")
    verdict.job.state = JobState.RUNNING
    verdict.job.save()

    assert "not heard of" not in page(viewer, f"/reference/{verdict.job_id}/verdict/")
