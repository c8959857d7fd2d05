"""A process in which own_store's functions run, on the data directory of its environment: `python -m telemetry.bench.own_calls`.

One line of JSON in, [function, argument, …]; one out, {"answer"} or {"error"}. The benches' own process has the user's
settings and must not touch a database; and asking a process that is there costs less than starting one each time.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import django

_PUBLIC = ("create", "broker_url", "enrol", "let_in", "n_accepted", "newest_ms", "load", "maintain", "n_values", "digest",
           "table_bytes")  # fmt: skip


def serve(module: str, public: Sequence[str]) -> None:
    """Answer what is asked of these functions of a module, until the input ends."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    django.setup()
    store = import_module(module)  # models can be imported only now
    calls = {name: getattr(store, name) for name in public}

    answers, sys.stdout = sys.stdout, sys.stderr  # whatever prints must not spoil the answers
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"answer": calls[name](*arguments)}
        except Exception as error:  # noqa: BLE001 — the outermost loop: the caller is told, and may ask something else
            answer = {"error": f"{name}: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve("telemetry.bench.own_store", _PUBLIC)
