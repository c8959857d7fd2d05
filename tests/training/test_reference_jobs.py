"""Each workload for real: through the runner, as a process with torch, its steps over a real socket."""

import re
import resource
import socket
import sys
import time

import pytest

from tests import programs
from tests.training.agents import CPU, GPU, LAUNCH, TINY, StandInAgent, interpreter
from training.judging import metrics
from training.steps import datagram
from training.workloads.catalog import WORKLOADS

SPEED = re.compile(r"_(seconds|per_second)(_|$)")


@pytest.fixture(scope="module", params=list(WORKLOADS))
def finished(request, tmp_path_factory):
    """Return (workload, reports, frames) of a tiny job that was run."""
    directory = tmp_path_factory.mktemp("agent")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(directory / "steps.sock"))
        agent = StandInAgent(directory)
        agent.order(7, workload=request.param, params=TINY)
        agent.end_of(7)
        listener.setblocking(False)
        frames = []
        while True:
            try:
                frames.append(datagram.read(listener.recv(65_536)))
            except BlockingIOError:
                return request.param, agent.reports_of(7), frames


def test_it_ends_done_with_a_falling_loss_or_a_checked_result(finished):
    workload, reports, _ = finished
    end = reports[-1]
    assert (end.state, end.reason) == ("done", "")
    if WORKLOADS[workload].is_training:
        assert end.result["loss_end"] < end.result["loss_start"]
    else:
        assert end.result["check"]


def test_its_figures_agree_with_each_other(finished):
    result = finished[1][-1].result
    assert (result["measured_steps"], result["warmup_steps"], result["samples"]) == (5, 1, 10)
    assert result["samples_per_second"] == pytest.approx(10 / result["measured_seconds"])
    window_seconds = (result["window_end_ms"] - result["window_start_ms"]) / 1000
    assert window_seconds == pytest.approx(result["measured_seconds"], abs=0.002)
    assert result["achieved_flops_per_second"] == pytest.approx(
        result["samples_per_second"] * result["flops_per_sample"]
    )


def test_its_result_says_how_everything_was_measured(finished):
    workload, reports, _ = finished
    result = reports[-1].result
    assert result["data"].startswith("synthetic") or workload in {"gemm-sweep", "memory-bandwidth", "allreduce"}
    assert "ru_maxrss" in result["peak_memory_method"]
    assert result["peak_memory_bytes"] > 50_000_000
    assert {"python", "torch", "allocator"} <= set(result["versions"])
    assert (result["precision"], result["batch_size"], result["seed"]) == ("fp32", 2, 1)


def test_each_of_its_figures_of_speed_is_judged_or_declared_not_to_be(finished):
    workload, reports, _ = finished
    result = reports[-1].result
    judged = {name.partition("/")[0] for name in metrics.values(workload, result)}
    declared = {field for field, _ in metrics.not_judged(workload, result)}

    speeds = {name for name, value in result.items() if SPEED.search(name) and value is not None}

    assert speeds - {"measured_seconds"} == (judged | declared) - {"peak_memory_bytes"}
    assert not judged & declared


def test_tokens_are_counted_only_where_samples_are_sequences(finished):
    workload, reports, _ = finished
    assert (reports[-1].result["tokens_per_second"] is not None) == workload.startswith("gpt-")


def test_every_step_arrives_as_a_frame_that_the_agent_reads(finished):
    workload, _, frames = finished
    assert [record.number for _, record in frames] == [1, 2, 3, 4, 5, 6]
    assert [record.sequence for _, record in frames] == [0, 1, 2, 3, 4, 5]
    assert [record.flags for _, record in frames] == [datagram.WARM_UP] + [0] * 5
    assert {(head["run"], head["launch"], *head["devices"]) for head, _ in frames} == {
        (f"reference {workload}", f"reference-7-{LAUNCH}", CPU.uuid)
    }
    assert all(record.samples == 2 for _, record in frames)


def test_no_frame_was_dropped_and_the_window_holds_the_measured_steps(finished):
    _, reports, frames = finished
    result = reports[-1].result
    assert result["dropped_step_frames"] == 0
    offset_ms = (time.time_ns() - time.monotonic_ns()) / 1e6
    ended_ms = [record.ended_ns / 1e6 + offset_ms for _, record in frames[1:]]
    assert all(result["window_start_ms"] - 2 <= each <= result["window_end_ms"] + 2 for each in ended_ms)


def test_reports_go_through_its_states_with_growing_sequences(finished):
    reports = finished[1]
    assert list(dict.fromkeys(report.state for report in reports)) == ["starting", "running", "done"]
    sequences = [report.sequence for report in reports]
    assert sequences == sorted(set(sequences))
    assert (reports[-1].step, reports[-1].total_steps) == (6, 6)


def test_its_log_tells_a_person_what_was_run(finished):
    log = finished[1][-1].log
    assert ", batch 2, fp32" in log
    assert "step 6/6: " in log


@pytest.mark.parametrize("workload", WORKLOADS)
def test_its_ci_size_takes_at_most_ten_seconds_of_two_cores(tmp_path, workload):
    """By CPU time, loading torch included: what else the machine does takes none of it."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    agent, before = StandInAgent(tmp_path), spent()
    agent.order(1, workload=workload, params={"size": "ci"}, time_limit_seconds=600)
    end = agent.end_of(1, 600)
    assert (end.state, end.reason) == ("done", "")
    assert end.result["measured_steps"] >= 30
    assert spent() - before <= 10 * 2


def test_a_job_that_compiles_does_so_before_its_measured_steps(tmp_path):
    """Any compilation within the measured steps fails the job."""
    programs.require("g++")
    agent = StandInAgent(tmp_path)
    agent.order(1, workload="memory-bandwidth", params=TINY | {"compile": "on"}, time_limit_seconds=600)
    end = agent.end_of(1, 600)
    assert (end.state, end.reason) == ("done", "")
    assert end.result["compiled_programs"] == 4
    assert end.result["first_step_seconds"] > 10 * end.result["step_seconds_p95"]


def test_a_host_without_a_compiler_does_not_offer_to_compile(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    agent = StandInAgent(tmp_path)
    agent.order(1, params=TINY | {"compile": "on"})
    end = agent.end_of(1)
    assert end.state == "failed"
    assert "compile is not offered" in end.reason


def test_a_precision_that_a_cpu_has_not_is_not_offered(tmp_path):
    agent = StandInAgent(tmp_path)
    agent.order(1, params=TINY | {"precision": "tf32"})
    end = agent.end_of(1)
    assert end.state == "failed"
    assert "precision: tf32 is not offered, this CPU has only fp32" in end.reason


def test_an_interpreter_without_torch_is_named_with_what_to_do(tmp_path):
    python = interpreter(tmp_path, f'exec {sys.executable} -S "$@"')
    agent = StandInAgent(tmp_path, python)
    agent.order(1)
    end = agent.end_of(1)
    assert end.state == "failed"
    assert "torch is not installed for" in end.reason
    assert "STEPWATT_JOB_PYTHON" in end.reason


def test_an_accelerator_that_torch_cannot_see_fails_and_is_not_replaced_by_the_cpu(tmp_path):
    agent = StandInAgent(tmp_path)
    agent.order(1, device_uuid=GPU.uuid)
    end = agent.end_of(1)
    assert end.state == "failed"
    assert f"device {GPU.uuid} cannot be used" in end.reason
    assert "sees no CUDA device" in end.reason
