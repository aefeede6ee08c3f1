"""Surges of non-delivery notices: what happened, how much is too much, and the likely cause."""
