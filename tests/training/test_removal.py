"""A host's reference jobs when the host is removed."""

import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.inventory.removal import remove_host
from tests.training.reference_jobs import existing_job, ready_host
from training.message import wire
from training.models import ACTIVE_STATES, JobState, ReferenceJob

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("state", ACTIVE_STATES)
def test_the_hosts_agent_is_told_to_end_what_it_runs(outbox, state, django_capture_on_commit_callbacks):
    job = existing_job(ready_host("a"), state)

    with django_capture_on_commit_callbacks(execute=True):
        remove_host(job.host, Actor("ada"), timezone.now())

    [(task, body)] = outbox.taken("a")
    assert (task, wire.unpack_cancel(body)) == (wire.CANCEL_TASK, (job.pk, job.launch, "a"))
    assert not ReferenceJob.objects.exists()


def test_other_hosts_jobs_go_on(outbox, django_capture_on_commit_callbacks):
    existing_job(ready_host("b"), JobState.RUNNING)
    host = ready_host("a")
    existing_job(host, JobState.DONE)

    with django_capture_on_commit_callbacks(execute=True):
        remove_host(host, Actor("ada"), timezone.now())

    assert (outbox.taken("a"), outbox.taken("b")) == ([], [])
    assert ReferenceJob.objects.get().host.name == "b"
