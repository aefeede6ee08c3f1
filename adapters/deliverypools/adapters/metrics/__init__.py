"""Metrics: what is measured, how it is gathered from all processes, and how Prometheus reads it."""
