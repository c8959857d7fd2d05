"""A process in which energy_data's function runs, as own_calls.py runs own_store's: `python -m telemetry.bench.energy_calls`."""

from telemetry.bench.own_calls import serve

if __name__ == "__main__":
    serve("telemetry.bench.energy_data", ("seed_energy",))
