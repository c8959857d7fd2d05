"""Step timings of a training loop for Stepwatt.

One line before the loop, one `with` around each step:

    run = stepwatt.run("llm-7b", samples_per_step=512, tokens_per_sample=4096)
    for batch in loader:
        with run.step() as step:
            with step.phase("forward"):
                ...
            step.log(loss=loss_as_a_float)

It never blocks, never raises into the loop, never synchronises the device, starts no thread, and does nothing where no
agent listens. It needs nothing but the standard library.
"""

from .runs import Run
from .steps import Step

run = Run  # what a training loop calls: one signature, which editors and help() show for both names

__all__ = ["Run", "Step", "run"]
