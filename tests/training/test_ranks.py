"""Two agents' job runners train one model: real processes, gloo between them."""

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.agents import LAUNCH, SLEEPS, StandInAgent, interpreter, is_alive, until
from training.message.rank_order import RankOrder, place
from training.message.wire import JobReport
from training.reference import device as devices
from training.reference import gpt_train, language
from training.reference.gpt import SHAPES, Gpt
from training.reference.order import LEFT, Order
from training.reference.ranks import Ranks
from training.reference.training import About, Training
from training.steps import datagram
from training.workloads.catalog import WORKLOADS, validate

STEPS, WARM_UP = 8, 2
PARAMS = {"steps": STEPS, "warmup_steps": WARM_UP, "batch_size": 4, "size": "ci"}
LONG = {**PARAMS, "steps": 100_000}
TOKEN = "c0ffee"
PATIENCE = 180.0  # seconds, for two processes to load torch and meet, beside whatever else the machine does


class Pair:
    """Two agents, of which the first gets rank 0 and the second what that agent reports."""

    def __init__(self, directory: Path, *pythons: str) -> None:
        self.agents = []
        for rank, name in enumerate(("node-1", "node-2")):
            (directory / name).mkdir()
            self.agents.append(StandInAgent(directory / name, *pythons[rank : rank + 1], host=name))

    def start(self, **order: object) -> None:
        self.agents[0].order(1, **order, ranks=RankOrder(1, 0, 2, TOKEN))
        until(lambda: any(report.meeting for report in self.agents[0].reports_of(1)))
        met = next(report.meeting for report in self.agents[0].reports_of(1) if report.meeting)
        self.agents[1].order(2, **order, ranks=RankOrder(1, 1, 2, TOKEN, *place(met)))

    def ends(self) -> list[JobReport]:
        return [agent.end_of(job, PATIENCE) for job, agent in enumerate(self.agents, 1)]

    def are_measuring(self) -> bool:
        stages = [{report.stage for report in agent.reports} for agent in self.agents]
        return all("measure" in found for found in stages)


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


def told(agent: StandInAgent) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(agent.context.socket_path))
    listener.setblocking(False)
    return listener


def read(listener: socket.socket) -> list[tuple[dict, datagram.Record]]:
    found = []
    with listener:
        while True:
            try:
                found.append(datagram.read(listener.recv(datagram.MAX_BYTES)))
            except BlockingIOError:
                return found


def trained_in_one_process() -> list[float]:
    """Return the losses of one process that has both ranks' batches, joined, as its own."""
    _, params = validate("gpt-train", PARAMS)
    alone = devices.open_device(Order("gpt-train", params, "cpu", "cpu-1", "", "", "", ""))
    shape, shares = SHAPES["ci"], []
    for rank in range(2):
        torch.manual_seed(params["seed"])
        share = replace(alone, ranks=Ranks(rank, 2, seed=params["seed"]))
        shares.append(language.batches(share, 4, shape.context))
    network = Gpt(shape)
    batches = [torch.cat(both) for both in zip(*shares, strict=True)]
    optimiser = torch.optim.AdamW(network.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)
    about = About(shape.name, gpt_train.gpt_training_flops_per_sequence(shape), "", 8)
    training = Training(alone, about, network, optimiser, batches, gpt_train.loss)
    return [training.step() for _ in range(WARM_UP + STEPS)]


def test_two_ranks_learn_what_one_process_learns_from_both_their_batches(pair):
    listeners = [told(agent) for agent in pair.agents]
    pair.start(params=PARAMS)
    ends = pair.ends()
    assert [end.state for end in ends] == ["done", "done"], [end.reason + (end.log or "") for end in ends]
    steps = [read(listener) for listener in listeners]

    assert [{head["rank"] for head, _ in of_rank} for of_rank in steps] == [{0}, {1}]
    losses = [(a.loss + b.loss) / 2 for (_, a), (_, b) in zip(*steps, strict=True)]
    assert losses == pytest.approx(trained_in_one_process(), rel=1e-4)
    whole, part = (end.result for end in ends)
    assert (whole["samples"], part["samples"]) == (STEPS * 8, STEPS * 4)
    assert whole["loss_end"] == part["loss_end"] < whole["loss_start"]
    assert 0 < whole["compute_seconds_median"] < whole["step_seconds_median"]
    assert all(0 < record.compute_ns <= record.nanoseconds for of_rank in steps for _, record in of_rank)


def test_a_rank_that_is_killed_takes_the_other_with_it_which_says_so(pair):
    pair.start(params=LONG)
    until(pair.are_measuring, PATIENCE)

    os.kill(pair.agents[1].running(2).pid, signal.SIGKILL)

    ends = pair.ends()
    assert [end.state for end in ends] == ["failed", "failed"]
    assert ends[0].reason.startswith(LEFT)
    assert "SIGKILL" in ends[1].reason


def test_rank_0_whose_others_are_cancelled_leaves_nothing_behind(pair):
    pair.start(params=LONG)
    pids = [agent.running(job).pid for job, agent in enumerate(pair.agents, 1)]
    for job, agent in enumerate(pair.agents, 1):
        agent.cancel(job)
    pair.ends()
    until(lambda: not any(map(is_alive, pids)), seconds=60)


def test_the_port_is_held_from_the_report_on_and_free_after_the_end(tmp_path):
    (tmp_path / "node-1").mkdir()
    agent = StandInAgent(tmp_path / "node-1", interpreter(tmp_path, SLEEPS))
    agent.order(1, ranks=RankOrder(1, 0, 2, TOKEN))
    agent.running(1)
    address = place(next(report.meeting for report in agent.reports_of(1)))
    socket.create_connection(address, timeout=60).close()
    agent.cancel(1, LAUNCH)
    agent.end_of(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=60)


@pytest.mark.parametrize(
    "workload", sorted({name for name, each in WORKLOADS.items() if each.is_distributable} - {"gpt-train"})
)
def test_other_workloads_run_over_two_ranks(pair, workload):
    pair.start(workload=workload, params={**PARAMS, "batch_size": 2})
    whole, part = pair.ends()
    assert (whole.state, part.state) == ("done", "done"), whole.reason + part.reason + (whole.log or "")
    shares = 1 if workload == "allreduce" else 2
    assert (whole.result["ranks"], whole.result["samples"]) == (2, STEPS * 2 * shares)


def test_ranks_repeat_their_steps_together(pair):
    pair.start(workload="resnet-train", params={**PARAMS, "batch_size": 2, "repeats": 3})
    whole, part = pair.ends()
    assert (whole.state, part.state) == ("done", "done"), whole.reason + part.reason + (whole.log or "")
    assert (whole.total_steps, whole.result["samples"]) == (WARM_UP + 3 * STEPS, 3 * STEPS * 2 * 2)
    for end in (whole, part):
        rates = end.result["repeat_samples_per_second"]
        assert list(rates) == ["1", "2", "3"]
        assert end.result["samples_per_second"] <= max(rates.values())
    assert whole.result["samples_per_second"] == pytest.approx(2 * part.result["samples_per_second"], rel=0.5)
