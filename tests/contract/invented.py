"""Time as the tests of the state want it."""

DAY = 86_400
START = 1_700_000_040.0
"""The beginning of a minute."""


class InventedClock:
    """A clock that stands still until somebody sets it."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now
