"""The training loops of a simulated fleet: what their ranks tell the agents of their hosts, by the agents' own code.

Called by the simulation. No Django.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from telemetry.agent.steps import Frame, Moment
from telemetry.message.wire import MAX_CARGO_BYTES, Cargo
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.fleet import Fleet, RunPlace
from telemetry.simulation.training import Plan, SimulatedStep
from training.host.steps import StepHold
from training.message.wire import STEPS_CARGO
from training.simulation.work import DTYPE, samples_per_step
from training.steps import datagram
from training.steps.columns import StepKind
from training.steps.datagram import UNTOLD_NS, WARM_UP, Record

_RANK_JITTER = 0.003
_COMPUTE_SHARE, _DATA_SHARE, _OPTIMIZER_SHARE = 0.85, 0.02, 0.05  # of a step of a rank at full clocks
_PHASES = ("data", "forward", "backward", "communication", "optimizer")
_ASIDES = ("validation", "checkpoint")
_ASIDE_OF = {"validate": "validation", "save": "checkpoint"}
_KIND_OF = {"validate": StepKind.VALIDATION, "save": StepKind.CHECKPOINT}
_UID, _GID = 65_534, 65_534


class SimulatedLoops:
    """What each host's agent holds of its ranks' steps until a batch takes it."""

    def __init__(self, fleet: Fleet, seed: str) -> None:
        self._fleet = fleet
        self._choose = random.Random(seed)  # noqa: S311 — a simulation is to be repeatable
        self._holds: dict[int, StepHold] = {}
        self._sequences: dict[tuple[int, int], int] = {}
        self._heads: dict[tuple[int, int, bool], bytes] = {}  # by host, GPU, and whether the step is no training step
        self._places = {host: (place, at) for place in fleet.runs for at, host in enumerate(place.hosts)}
        board = BOARDS[fleet.shape.model]
        self._samples = {
            place.run.plan.name: samples_per_step(place.run.plan, board, len(place.hosts) * fleet.shape.n_gpus)
            for place in fleet.runs
        }

    def cargo(self, host: int, now: float) -> Cargo:
        """Return what goes along with a batch of the host at that place in the fleet, at UTC seconds."""
        if host in self._places:
            self._hear(self._places[host][0], now)
        elif host not in self._holds:
            return {}
        blocks = self._holds.setdefault(host, StepHold()).take(MAX_CARGO_BYTES)
        return {STEPS_CARGO: blocks} if blocks else {}

    def take(self, host: int, datagrams: Sequence[bytes], now: float) -> None:
        """Have the agent of the host at that place take steps that a process told it by UTC seconds: its clock is that one."""
        moment = Moment(round(now * 1e9), round(now * 1e9))
        self._holds.setdefault(host, StepHold()).put([Frame(raw, 0, _UID, _GID) for raw in datagrams], moment)

    def hear(self, now: float) -> None:
        """Have all ranks tell what they have done: to be called more often than once a minute, which steps may be old."""
        for place in self._fleet.runs:
            self._hear(place, now)

    def _hear(self, place: RunPlace, now: float) -> None:
        for step in place.run.take_steps(now):
            for at, each in enumerate(place.hosts):
                self._tell(place, at, each, step, now)

    def _tell(self, place: RunPlace, at: int, host: int, step: SimulatedStep, now: float) -> None:
        """Have the ranks of one host tell their agent of a step."""
        self.take(host, [self._datagram(place, at, host, gpu, step) for gpu in range(self._fleet.shape.n_gpus)], now)

    def _datagram(self, place: RunPlace, at: int, host: int, gpu: int, step: SimulatedStep) -> bytes:
        """Return the step as one rank saw it: fast ones wait for the slowest."""
        key = host, gpu, bool(step.phase)
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self._head(place, at, host, gpu, is_aside=bool(step.phase))
        return head + datagram.put_record(self._record(place, host, gpu, step))

    def _samples_of_rank(self, place: RunPlace) -> float:
        return self._samples[place.run.plan.name] / (len(place.hosts) * self._fleet.shape.n_gpus)

    def _head(self, place: RunPlace, at: int, host: int, gpu: int, *, is_aside: bool) -> bytes:
        """Return what a rank tells of itself with each step."""
        fleet, run = self._fleet, place.run
        n_ranks = len(place.hosts) * fleet.shape.n_gpus
        rank = at * fleet.shape.n_gpus + gpu
        head = {
            "run": run.plan.name,
            "launch": run.launch,
            "rank": rank,
            "world_size": n_ranks,
            "process": UUID(int=random.Random(f"{run.launch}/{run.plan.name}/{rank}").getrandbits(128)).hex,  # noqa: S311
            "devices": [fleet.machines[host].devices[gpu].uuid],
            "owner": "simulation",
            "group": run.plan.group,
            "phases": _ASIDES if is_aside else _PHASES,
            "about": _about(run.plan, self._samples_of_rank(place)),
        }
        return datagram.put_head(head)

    def _record(self, place: RunPlace, host: int, gpu: int, step: SimulatedStep) -> Record:
        run, samples = place.run, self._samples_of_rank(place)
        pace = step.paces.get((host, gpu)) or 1 - _RANK_JITTER * self._choose.random()
        seconds, compute = step.seconds * step.slowest, step.seconds * _COMPUTE_SHARE * pace
        sequence = self._sequences[host, gpu] = self._sequences.get((host, gpu), -1) + 1
        ended_ns, nanoseconds = round((step.start + seconds) * 1e9), round(seconds * 1e9)
        if step.phase:
            durations = [nanoseconds if _ASIDE_OF[step.phase] == name else UNTOLD_NS for name in _ASIDES]
            return Record(
                sequence, 0, step.number, ended_ns, nanoseconds, UNTOLD_NS, math.nan, math.nan, math.nan,
                _KIND_OF[step.phase], 0, durations,
            )  # fmt: skip
        phases = _phases(step.seconds, seconds, compute)
        return Record(
            sequence, 0, step.number, ended_ns, nanoseconds, round(compute * 1e9), samples,
            samples * run.plan.tokens_per_sample, step.loss, StepKind.TRAIN, WARM_UP if step.is_warmup else 0,
            [round(phases[name] * 1e9) for name in _PHASES],
        )  # fmt: skip


def _phases(at_full_clocks: float, seconds: float, compute: float) -> Mapping[str, float]:
    data, optimizer = at_full_clocks * _DATA_SHARE, at_full_clocks * _OPTIMIZER_SHARE
    forward = (compute - data - optimizer) / 3
    return {
        "data": data,
        "forward": forward,
        "backward": 2 * forward,
        "communication": max(0.0, seconds - compute),
        "optimizer": optimizer,
    }


def _about(plan: Plan, samples: float) -> Mapping[str, Any]:
    return {
        **plan.about,
        "samples_per_step": samples,
        "tokens_per_sample": plan.tokens_per_sample,
        "dtype": DTYPE,
        "framework": "simulated",
    }
