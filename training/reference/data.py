"""How a workload's synthetic data is used; the workloads make it, the harness judges the loss by it. No torch."""

BATCHES = 4  # made once on the device and used in turn, so that making data is no part of a step
