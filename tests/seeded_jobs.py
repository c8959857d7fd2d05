"""Reference jobs with results in a running product, as a process of its own: `python -m tests.seeded_jobs`.

No board ran them: it writes the rows that jobs, verdicts, repeats, ladders and a distributed job leave. Prints the address of
each page that shows them, as JSON.
"""

import json
import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).parents[1] / "training" / "client"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
H100 = "NVIDIA H100 80GB HBM3"  # figures are published of it
LAUNCH = "5eeded"


def pages() -> dict[str, str]:
    """Write the rows, and return the pages by name."""
    from fleet.models import Device
    from tests.training.judging.judged import board, judged, together, with_history
    from tests.training.test_pages_ladder import climbed
    from tests.training.test_repeats import OF_THREE, THREE
    from training.models import ReferenceJob

    hosts = [board(name) for name in ("a", "bench-b", "bench-c")]
    Device.objects.filter(host__in=hosts).update(model=H100)
    losses = [5.0 * 0.97**step for step in range(180)]
    for host in hosts[1:]:
        with_history(host)
        judged(host, losses=losses, result={"device_name": H100})
    repeated = {"params": THREE, "result": OF_THREE | {"device_name": H100}}
    for minute in range(10):
        judged(hosts[0], 1.0, minute - 100, **repeated)
    jobs = [
        judged(hosts[0], 1.1, **repeated, losses=losses).job,
        judged(hosts[1], 1.0, result={"device_name": H100}).job,
    ]
    ReferenceJob.objects.filter(pk__in=[job.pk for job in jobs]).update(launch=LAUNCH)
    ranks = together(hosts[:2], losses=losses)
    return {
        "launched": f"/reference/?view=launched&launch={LAUNCH}",
        "job": f"/reference/{jobs[0].pk}/",
        "distributed-job": f"/reference/{ranks.job_id}/",
        "ladder": f"/reference/ladders/{climbed().pk}/",
        "trend": "/reference/hosts/bench-b/?workload=gpt-train",
    }


if __name__ == "__main__":
    django.setup()
    from django.db import transaction

    with transaction.atomic():  # nobody sees a ladder that waits for its first process
        found = pages()
    sys.stdout.write(json.dumps(found))
