"""Pages of training: runs and reference jobs. Included by fleet/urls.py at the root."""

from django.urls import path

from training.views import (
    headlines,
    job,
    ladder,
    matrix,
    recent,
    reference,
    run,
    run_data,
    run_why,
    runs,
    search,
    standing,
    verdict,
)

app_name = "training"
urlpatterns = [
    path("search/", search.search, name="search"),
    path("runs/", runs.runs, name="runs"),
    path("runs/headlines/", headlines.headlines, name="headlines"),
    path("runs/running/", runs.running, name="running"),
    path("runs/<int:run_id>/", run.run, name="run"),
    path("runs/<int:run_id>/why/", run_why.why, name="run-why"),
    path("runs/<int:run_id>/arrays/", run_data.arrays, name="run-arrays"),
    path("runs/<int:run_id>/steps/", run_data.steps, name="run-steps"),
    path("runs/<int:run_id>/ranks/", run_data.ranks, name="run-ranks"),
    path("runs/<int:run_id>/compare/", run_data.compare_arrays, name="run-compare"),
    path("reference/", reference.reference, name="reference"),
    path("reference/recent/", recent.recent, name="recent"),
    path("reference/standing/", standing.standing, name="standing"),
    path("reference/matrix/", matrix.matrix, name="matrix"),
    path("reference/results.csv", matrix.matrix_csv, name="matrix-csv"),
    path("reference/hosts/<str:name>/", matrix.trend, name="trend"),
    path("reference/<int:job_id>/verdict/", verdict.verdict, name="verdict"),
    path("reference/<int:job_id>/confirm/", verdict.confirm, name="confirm"),
    path("reference/ladders/", ladder.ladders, name="ladders"),
    path("reference/ladders/<int:ladder_id>/", ladder.ladder, name="ladder"),
    path("reference/ladders/<int:ladder_id>/cancel/", ladder.cancel, name="ladder-cancel"),
    path("reference/<int:job_id>/", job.job, name="job"),
    path("reference/<int:job_id>/steps/", job.steps, name="steps"),
    path("reference/<int:job_id>/log/", job.log, name="log"),
    path("reference/<int:job_id>/cancel/", job.cancel, name="cancel"),
]
