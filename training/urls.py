"""Pages of training: runs and reference jobs. Included by fleet/urls.py at the root."""

from django.urls import path

from training.views import job, recent, reference, run, run_data, run_why, runs

app_name = "training"
urlpatterns = [
    path("runs/", runs.runs, name="runs"),
    path("runs/running/", runs.running, name="running"),
    path("runs/<int:run_id>/", run.run, name="run"),
    path("runs/<int:run_id>/why/", run_why.why, name="run-why"),
    path("runs/<int:run_id>/arrays/", run_data.arrays, name="run-arrays"),
    path("runs/<int:run_id>/steps/", run_data.steps, name="run-steps"),
    path("runs/<int:run_id>/ranks/", run_data.ranks, name="run-ranks"),
    path("runs/<int:run_id>/compare/", run_data.compare_arrays, name="run-compare"),
    path("reference/", reference.reference, name="reference"),
    path("reference/recent/", recent.recent, name="recent"),
    path("reference/<int:job_id>/", job.job, name="job"),
    path("reference/<int:job_id>/steps/", job.steps, name="steps"),
    path("reference/<int:job_id>/log/", job.log, name="log"),
    path("reference/<int:job_id>/cancel/", job.cancel, name="cancel"),
]
