"""A process in which pages_store's functions run, as own_calls.py runs own_store's: `python -m telemetry.bench.pages_calls`."""

from telemetry.bench.own_calls import serve

PUBLIC = ("seed", "live", "samples", "fine", "maintain", "rolled_up", "session")

if __name__ == "__main__":
    serve("telemetry.bench.pages_store", PUBLIC)
