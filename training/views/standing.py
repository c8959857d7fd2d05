"""How devices stand in training, for the host map, which pulls it: deviation from the baseline, and what runs there."""

import orjson
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page, require_safe

from fleet.web.shared_answer import shared
from training.judging import results
from training.models import RunRank


@require_safe
@cache_control(private=True, no_cache=True)
@conditional_page
@shared(seconds=5)
def standing(request: HttpRequest) -> HttpResponse:
    """Columns over devices by id: the slowest deviation among a device's newest results, and the run that it takes part in."""
    slowest = results.slowest_by_device()
    running = RunRank.objects.filter(device__isnull=False, run__ends_at__gt=timezone.now()).order_by("run_id")
    runs = dict(running.values_list("device_id", "run__name"))
    answer = {
        "deviation": {
            "id": list(slowest),
            "ratio": [round(each.deviation, 4) for each in slowest.values()],
            "workload": [each.workload for each in slowest.values()],
        },
        "run": {"id": list(runs), "name": list(runs.values())},
    }
    return HttpResponse(orjson.dumps(answer), content_type="application/json")
