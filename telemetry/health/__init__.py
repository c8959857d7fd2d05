"""Health: what a device's readings say of it now (judgement.py), and the alerts that rules make of them (watch.py).

The names here are what pages, API and exposition use; the rest is asked for by its module.
"""

from telemetry.health.judgement import OF_THE_AGENT, Finding, Health, is_read, judge

__all__ = ["OF_THE_AGENT", "Finding", "Health", "is_read", "judge"]
