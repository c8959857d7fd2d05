"""The rows of Step become columns in StepChunk, run by run, and each rank of a run a row of RunRank; and back."""

from datetime import timedelta

import numpy as np
from django.db import migrations

from training.steps import histogram
from training.steps import body
from training.steps import columns as step_columns

KINDS = {"train": 0, "validation": 1}
MOST = 50_000
NUMBERS = ("rank", "number", "ended_ms", "seconds", "samples", "tokens", "loss", "is_warmup")


def join(apps, schema_editor):
    Run, RunRank, Step, StepChunk = (apps.get_model("training", name) for name in ("Run", "RunRank", "Step", "StepChunk"))
    for run in Run.objects.order_by("pk").iterator():
        rows = Step.objects.filter(run=run).order_by("ended_ms", "pk")
        totals = {}
        for first in range(0, rows.count(), MOST):
            steps = _columns(list(rows[first : first + MOST]))
            StepChunk.objects.create(
                run=run, first_ms=int(steps.ended_ms[0]), last_ms=int(steps.ended_ms[-1]), n_steps=len(steps),
                lowest_rank=int(steps.rank.min()), highest_rank=int(steps.rank.max()), body=body.encode(steps),
            )
            for rank in np.unique(steps.rank).tolist():
                _add(totals.setdefault(rank, {}), steps.of_rank(rank))
        RunRank.objects.bulk_create(
            RunRank(run=run, rank=rank, host=run.host, device=run.device if rank == 0 else None,
                    device_uuids=[run.device.uuid] if rank == 0 and run.device else [], **fields)
            for rank, fields in totals.items()
        )
        if run.last_step_at:
            Run.objects.filter(pk=run.pk).update(ends_at=run.last_step_at + timedelta(minutes=5))


def _columns(rows):
    columns = {name: np.array([getattr(row, name) for row in rows], step_columns.DTYPES[name]) for name in NUMBERS}
    columns["kind"] = np.array([KINDS[row.kind] for row in rows], np.uint8)
    names = dict.fromkeys(name for row in rows for name in row.phases)
    phases = {name: np.array([row.phases.get(name, np.nan) for row in rows], np.float64) for name in names}
    return step_columns.of_arrays(columns, phases)


def _add(fields, steps):
    counted = steps.select((steps.kind == 0) & ~steps.is_warmup)
    fields["first_ms"] = min(fields.get("first_ms", 2**62), int(steps.began_ms.min()))
    fields["last_ms"] = max(fields.get("last_ms", 0), int(steps.ended_ms[-1]))
    fields["n_frames"] = fields.get("n_frames", 0) + len(steps)
    fields["n_steps"] = fields.get("n_steps", 0) + len(counted)
    fields["seconds"] = fields.get("seconds", 0.0) + float(counted.seconds.sum())
    for name in ("samples", "tokens"):
        told = step_columns.told_sum(getattr(counted, name))
        fields[name] = told if fields.get(name) is None else fields[name] + (told or 0.0)
    fields["histogram"] = histogram.summed(fields.get("histogram", []), histogram.counts(counted.seconds))


def part(apps, schema_editor):
    """Of a run's starts, and of what was neither training nor validation, the rows knew nothing: those stay behind."""
    RunRank, Step, StepChunk = (apps.get_model("training", name) for name in ("RunRank", "Step", "StepChunk"))
    kinds = {number: name for name, number in KINDS.items()}
    for chunk in StepChunk.objects.order_by("pk").iterator():
        steps = body.decode(bytes(chunk.body))
        steps = steps.select(np.isin(steps.kind, list(kinds)))
        rows = []
        for place in range(len(steps)):
            values = {name: getattr(steps, name)[place].item() for name in NUMBERS}
            values = {name: None if value != value else value for name, value in values.items()}
            phases = {name: column[place].item() for name, column in steps.phases.items() if column[place] == column[place]}
            values["ended_ms"] = round(values["ended_ms"])
            rows.append(Step(run_id=chunk.run_id, kind=kinds[steps.kind[place].item()], phases=phases, **values))
        Step.objects.bulk_create(rows, batch_size=5_000, ignore_conflicts=True)
    StepChunk.objects.all().delete()
    RunRank.objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ('training', '0003_ranks_and_chunks'),
    ]

    operations = [
        migrations.RunPython(join, part),
    ]
