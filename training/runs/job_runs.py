"""The runs of reference jobs end with their jobs: nobody is waited for who could tell of further steps.

Called where a job's end or the last of its steps comes in, whichever is later, and by the watch for what the server concluded.
"""

from datetime import datetime

from django.db.models import F, Q
from django.db.models.functions import Coalesce, Least

from training.models import FINAL_STATES, Run

EVERY = Q()


def end(of: Q, now: datetime) -> int:
    """End the runs among `of` whose jobs have ended; returns how many. One whose job goes on after all goes on with its steps."""
    running = Run.objects.filter(of, ends_at__gt=now, reference_job__state__in=FINAL_STATES)
    return running.update(ends_at=Least(Coalesce(F("last_step_at"), now), now))
