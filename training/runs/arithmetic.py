"""What a run says of its arithmetic and its devices, as mfu.py takes it. Called by the figures."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from telemetry.store import latest
from training.runs.members import Members
from training.steps.statistics import Rate
from training.utilisation import decoder_flops
from training.utilisation.decoder_flops import ShapeIncomplete
from training.utilisation.flops import Flops
from training.utilisation.mfu import RunDevice


class RunFlops(NamedTuple):
    """The FLOPs of a `unit` ("samples" or "tokens"); None with the reason. `per_sample` is None where that is not known."""

    flops: Flops | None
    unit: str
    per_sample: float | None
    why: str = ""


def run_flops(told: Mapping[str, Any], samples: Rate, tokens: Rate) -> RunFlops:
    """Return the FLOPs of a sample as the loop gives them, else those of a token by formula."""
    given = _number(told, "flops_per_sample")
    if given is not None:
        return RunFlops(Flops(int(given), "FLOPs of a sample as the loop gives them"), "samples", given)
    model = told.get("model")
    if not isinstance(model, Mapping):
        return RunFlops(None, "samples", None, "the loop tells neither flops_per_sample nor its model's shape")
    try:
        of_token = decoder_flops.flops_per_token(model)
    except ShapeIncomplete as error:
        return RunFlops(None, "samples", None, str(error))
    of_sample = _number(told, "tokens_per_sample")
    per_sample = None if of_sample is None else of_token.count * of_sample
    if tokens.amount is None and samples.amount is not None and per_sample is not None:
        method = f"{of_token.method}; times {of_sample:g} tokens a sample"
        return RunFlops(Flops(int(per_sample), method), "samples", per_sample)
    return RunFlops(of_token, "tokens", per_sample)


def _number(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    return float(value) if isinstance(value, int | float) and value > 0 else None


def run_devices(who: Members) -> list[RunDevice]:
    """Return the run's devices with the memory that they tell of now."""
    newest = latest.of_hosts(who.hosts)
    found = []
    for device in who.devices:
        of_host = newest.get(device.host_id)
        known = of_host.devices.get(device.uuid) if of_host else None
        memory = known.values.get("memory_total_bytes") if known else None
        found.append(RunDevice(device.uuid, device.model, memory, device.profile))
    return found
