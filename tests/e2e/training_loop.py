"""A training loop of a user: tells its steps by the client until it is stopped. Run as a process of its own by test_runs.py."""

import time

import stepwatt

run = stepwatt.run("browser-llm", samples_per_step=8, tokens_per_sample=1024, flops_per_sample=1e9, dtype="fp32")
while True:
    with run.step() as step:
        with step.phase("data"):
            time.sleep(0.02)
        with step.phase("forward"):
            time.sleep(0.06)
        with step.phase("backward"):
            time.sleep(0.1)
        step.log(loss=1.5)
