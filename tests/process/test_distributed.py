"""One training over two machines, each in a network of its own: ranks meet over the agents, and end together."""

from collections.abc import Iterator

import pytest

from tests.process.pair import NAMES, PATIENCE, Pair, said, two_machines
from tests.process.traces import wait_until


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[Pair]:
    with two_machines(tmp_path_factory) as running:
        yield running


def test_two_agents_train_one_model_over_gloo(pair):
    found = pair.launch("--param", "steps=20", "--wait")

    assert found["state"] == "done", said(found)
    assert [rank["host"] for rank in found["ranks"]] == [*NAMES]
    result = found["result"]
    assert (result["ranks"], result["batch_size"], result["samples"]) == (2, 8, 20 * 8)
    assert result["loss_end"] < result["loss_start"]
    whole = f"/api/v1/reference/jobs/{found['id']}/steps"

    def are_told() -> bool:
        steps = pair.client.get(whole).json()
        return steps["step"] == list(range(1, 23)) and None not in steps["loss"]

    wait_until(are_told, PATIENCE, "both ranks' steps")
    assert all(rank["compute_seconds"] > 0 for rank in pair.job(found["id"])["ranks"])


def test_a_rank_that_is_killed_ends_the_job_with_its_reason(pair):
    number = pair.endless()

    pair.process("node-2").kill()

    found = pair.ended(number)
    assert found["state"] == "failed"
    assert found["reason"].startswith("rank 1 on node-2: the job's process was killed by signal 9"), said(found)


def test_a_cancel_ends_the_ranks_on_both_machines(pair):
    number = pair.endless()
    processes = [pair.process(name) for name in NAMES]

    pair.client.post(f"/api/v1/reference/jobs/{number}/cancel").raise_for_status()

    assert pair.ended(number)["state"] == "cancelled", said(pair.job(number))
    assert not any(process.is_running() for process in processes)
