"""A process in which pages_store's functions run: `python -m training.bench.pages_calls`. See telemetry/bench/own_calls.py."""

from telemetry.bench.own_calls import serve

PUBLIC = ("results", "runs")

if __name__ == "__main__":
    serve("training.bench.pages_store", PUBLIC)
