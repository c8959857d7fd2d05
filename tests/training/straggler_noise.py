"""How often stragglers are found that are none, and how soon those that are: noise as recorded, planted slow ranks.

`python -m tests.training.straggler_noise [hours]` prints the tables of docs/stragglers.md. A rank's compute time is the recorded
median times the recorded steps' own deviations from it, drawn in blocks of 24 steps (what comes in rows stays in rows), for each
rank by itself. The recordings are of whole steps, so of the slowest of all ranks: one rank's own noise is not published.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.runs import rank_matrix, stragglers

DATA = Path(__file__).parent.parent / "data"
BLOCK = 24
_CHUNK_STEPS = 4_000


@dataclass(frozen=True)
class Noise:
    """Deviations `(n,)` of recorded steps from their median, as logarithms, and that median in seconds."""

    name: str
    seconds: float
    deviations: np.ndarray

    def compute(self, n_steps, n_ranks, random, *, times=1.0):
        """Return compute seconds `(n_steps, n_ranks)`; `times` makes the noise so much larger."""
        n_blocks = -(-n_steps // BLOCK)
        starts = random.integers(0, self.deviations.size - BLOCK + 1, (n_ranks, n_blocks))
        drawn = self.deviations[starts[..., None] + np.arange(BLOCK)].reshape(n_ranks, -1)[:, :n_steps]
        return self.seconds * np.exp(times * drawn.T)


def gpt_3():
    """The training steps of GPT-3 175B on 512 H100."""
    with (DATA / "mlperf_gpt3_64xh100" / "step_times.csv").open() as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file) if row["kind"] == "train"]
    return _noise("GPT-3, 512 H100", np.array(seconds))


def nanogpt():
    """The steps of a GPT-2 on 8 H100, by a clock of whole milliseconds."""
    with (DATA / "modded_nanogpt_8xh100" / "2024-11-10_UNetDoubleLr.head300.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss_kind"] == "train_loss"]
    at = np.array([(int(row["step"]), float(row["train_time_ms"])) for row in rows])
    follows = (np.diff(at[:, 0]) == 1) & (np.diff(at[:, 1]) > 0)  # the clock begins anew after the warm-up
    return _noise("GPT-2, 8 H100", np.diff(at[:, 1])[follows] / 1000)


def _noise(name, seconds):
    return Noise(name, float(np.median(seconds)), np.log(seconds / np.median(seconds)))


def false_verdicts(noise, rank_hours, n_ranks, random, *, times=1.0, stride=5):
    """Return (verdicts by mistake, rank-hours looked at, levels of all windows): one verdict is one unbroken row of windows."""
    n_verdicts, looked_at, levels = 0, 0.0, []
    while looked_at < rank_hours:
        distances = rank_matrix.distances_to_others(noise.compute(_CHUNK_STEPS, n_ranks, random, times=times))
        slow = stragglers.stragglers_at(distances, stride=stride)
        began = slow & ~np.vstack([np.zeros((1, n_ranks), bool), slow[:-1]])
        n_verdicts += int(began.sum())
        looked_at += _CHUNK_STEPS * n_ranks * noise.seconds / 3600
        levels.append(np.median(distances[: _CHUNK_STEPS // 20 * 20].reshape(-1, 20, n_ranks), axis=1).ravel())
    return n_verdicts, looked_at, np.concatenate(levels)


def found_after(noise, slower, n_ranks, random, *, times=1.0, trials=200):
    """Return after how many steps each planted slow rank was found `(trials,)`, infinite where not within 100."""
    found = np.full(trials, np.inf)
    for trial in range(trials):
        compute = noise.compute(300, n_ranks, random, times=times)
        rank = int(random.integers(n_ranks))
        compute[200:, rank] *= 1 + slower
        slow = stragglers.stragglers_at(rank_matrix.distances_to_others(compute))[:, rank]
        after = np.flatnonzero(slow[200 - stragglers.WINDOW + 1 :])
        if after.size:
            found[trial] = after[0] + 1
    return found


def main(rank_hours):
    print(
        "| noise | times | ranks | rank-hours | windows' levels: 99 % / 99.99 % / highest | false verdicts | per 1,000 h |"
    )
    print("|---|---|---|---|---|---|---|")
    for noise in (gpt_3(), nanogpt()):
        for times in (1.0, 3.0):
            for n_ranks in (2, 8, 64):
                random = np.random.default_rng(20_241_128)
                n, hours, levels = false_verdicts(noise, rank_hours, n_ranks, random, times=times)
                high = " / ".join(
                    f"{100 * np.expm1(at):.2f} %" for at in (*np.quantile(levels, (0.99, 0.9999)), levels.max())
                )
                print(
                    f"| {noise.name} | {times:g} | {n_ranks} | {hours:,.0f} | {high} | {n} | {1000 * n / hours:.2f} |"
                )
    print("\n| noise | times | ranks | slower by | found within 30 steps | steps until found: median / 95 % |")
    print("|---|---|---|---|---|---|")
    for noise in (gpt_3(), nanogpt()):
        for times in (1.0, 3.0):
            for n_ranks in (2, 8, 64):
                for slower in (0.06, 0.10, 0.20):
                    random = np.random.default_rng(20_241_128)
                    after = found_after(noise, slower, n_ranks, random, times=times)
                    middle, late = np.quantile(after, (0.5, 0.95), method="higher")
                    print(
                        f"| {noise.name} | {times:g} | {n_ranks} | {100 * slower:g} % | {100 * (after <= 30).mean():.1f} % "
                        f"| {middle:g} / {late:g} |"
                    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3_000.0)
