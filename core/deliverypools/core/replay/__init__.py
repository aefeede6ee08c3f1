"""Replays: what other settings would have done with mail that was sent already.

From a mail log, which tells who sent how much to whom, or from the decision log, which keeps the evidence. What neither
tells is counted as such, and never guessed.
"""
