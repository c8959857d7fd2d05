"""Pages of training: reference jobs. Included by fleet/urls.py at the root."""

from django.urls import path

from training.views import job, recent, reference

app_name = "training"
urlpatterns = [
    path("reference/", reference.reference, name="reference"),
    path("reference/recent/", recent.recent, name="recent"),
    path("reference/<int:job_id>/", job.job, name="job"),
    path("reference/<int:job_id>/steps/", job.steps, name="steps"),
    path("reference/<int:job_id>/log/", job.log, name="log"),
    path("reference/<int:job_id>/cancel/", job.cancel, name="cancel"),
]
