"""The workloads that train nothing: what they compute is right, and a fault in it is found."""

import os
from dataclasses import replace

import pytest
import torch

from training.reference import counts, gemm_sweep, gpt_generate, memory_bandwidth, resnet_infer
from training.reference.device import Device
from training.reference.gpt import GPT_CI, Gpt
from training.reference.gpt_cache import Generator
from training.reference.order import CannotRun
from training.reference.timings import Timings
from training.workloads.catalog import WORKLOADS, validate

CPU = Device(torch.device("cpu"), "a processor", None, "fp32", 1)
BUILDERS = {
    "gpt-generate": gpt_generate,
    "resnet-infer": resnet_infer,
    "gemm-sweep": gemm_sweep,
    "memory-bandwidth": memory_bandwidth,
}
TINY = {"batch_size": 2, "size": "ci"}


def built(workload, device=CPU, **changes):
    """Return the workload after two steps."""
    torch.manual_seed(1)
    work = BUILDERS[workload].build(device, validate(workload, {**TINY, **changes})[1])
    work.begin_measuring()
    for _ in range(2):
        assert work.step() is None
    return work


@pytest.mark.parametrize("workload", BUILDERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_it_computes_passes_its_check(workload, precision):
    assert built(workload, replace(CPU, precision=precision)).verify([])["check"]


@pytest.mark.parametrize("length", [1, 5, GPT_CI.context - 1])
def test_generating_with_a_cache_chooses_what_the_whole_model_chooses(length):
    torch.manual_seed(2)
    network, prompts = Gpt(GPT_CI), torch.randint(256, (3, length))
    generator = Generator(network, GPT_CI, 3)
    with torch.no_grad():
        first = generator.read(prompts)
        second = generator.next(first, torch.tensor([length]))
        again = network(torch.cat([prompts, first], dim=1)).argmax(dim=2)
    assert torch.equal(torch.cat([first, second], dim=1), again[:, -2:])


def test_a_wrong_token_is_found():
    work = built("gpt-generate")
    work._last[0, -1] = (work._last[0, -1] + 1) % 256
    with pytest.raises(CannotRun, match="the generated tokens are not the likeliest"):
        work.verify([])


def test_a_flipped_weight_between_batches_is_found():
    work = built("resnet-infer", batch_size=0)
    work._logits[1][0, 0] += 10
    with pytest.raises(CannotRun, match="logits differ"):
        work.verify([])


def test_a_wrong_product_is_found():
    work = built("gemm-sweep")
    work._results[0][3, 3] += 1
    with pytest.raises(CannotRun, match="is off by"):
        work.verify([])


@pytest.mark.parametrize("element", [0, 77, -1])
def test_a_flipped_bit_in_memory_is_found(element):
    work = built("memory-bandwidth")
    work._arrays[1].view(torch.int32)[element] ^= 1 << 20
    with pytest.raises(CannotRun, match="memory or arithmetic is at fault"):
        work.verify([])


def test_with_precision_auto_each_offered_dtype_is_multiplied():
    device = replace(CPU, offered=("fp32", "bf16"))
    names = built("gemm-sweep", device).figures()["gemm_flops_per_second"]
    assert {name.split()[0] for name in names} == {"fp32", "bf16"}


def test_generation_tells_prefill_decode_and_the_time_to_the_first_token():
    figures = built("gpt-generate").figures()
    assert (figures["prompt_tokens"], figures["generated_tokens"]) == (16, 8)
    assert figures["first_token_seconds_p99"] >= figures["first_token_seconds_median"] > 0
    assert figures["token_seconds_p99"] >= figures["token_seconds_median"] > 0
    assert figures["decode_tokens_per_second"] > 0


def test_generation_costs_what_was_counted():
    """By hand for one layer of width 2, a vocabulary of 3, one head, two tokens read and two generated: three are fed."""
    shape = replace(GPT_CI, layers=1, heads=1, width=2, vocabulary=3)
    body = 12 * 2**2 + 2 * 2 + 2
    seen = 1 + 2 + 3
    assert counts.generation_flops_per_sequence(shape, 2, 2).count == 3 * 2 * body + 4 * 2 * seen + 2 * 2 * 3 * 2


def test_inference_tells_latency_and_throughput_of_each_batch():
    figures = built("resnet-infer", batch_size=0).figures()
    assert set(figures["latency_seconds_median"]) == {"batch 1", "batch 2"}
    assert figures["batch_samples_per_second"]["batch 2"] > 0


def test_bandwidth_counts_what_is_read_and_written():
    work = built("memory-bandwidth")
    work._timings.clear()
    for name in ("copy", "scale", "add", "triad"):
        work._timings.add(name, 2.0)
    array_bytes = 4 * 2**18
    assert work.figures()["loop_bytes_per_second"] == {
        "copy": array_bytes, "scale": array_bytes, "add": 1.5 * array_bytes, "triad": 1.5 * array_bytes,
    }  # fmt: skip


def test_percentiles_are_durations_that_occurred():
    timings = Timings()
    for seconds in range(1, 101):
        timings.add("x", float(seconds))
    assert (timings.median("x"), timings.p99("x"), timings.total("x"), timings.count("x")) == (50.5, 99.0, 5050.0, 100)


def test_sums_over_ranks_of_a_gpu_need_several(monkeypatch):
    monkeypatch.delitem(os.environ, "WORLD_SIZE", raising=False)
    from training.reference import allreduce

    alone = replace(CPU, torch_device=torch.device("cuda", 0), memory_bytes=80e9)
    with pytest.raises(CannotRun, match="needs more than one device"):
        allreduce.build(alone, validate("allreduce", {})[1])


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_workload_says_what_runs_where_and_how_flops_are_counted(workload):
    found = WORKLOADS[workload]
    assert set(found.sizes) == {"large", "small", "cpu", "ci"}
    assert found.flops
    assert {"steps", "warmup_steps", "batch_size", "precision", "compile", "size", "seed"} <= {
        p.name for p in found.params
    }
