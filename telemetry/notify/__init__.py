"""Telling people of alerts: what is silenced, what is due to whom, and how it gets there."""
