"""How long a question to a busy scanner would wait for its turn, judged by how long answers have taken of late."""

from __future__ import annotations

from typing import Final

_ANSWERS: Final = 8
"""The mean is one of about so many answers: one slow answer does not turn mail away."""


class Turns:
    """The questions that one scanner is asked, or that wait for it. Calls come one at a time."""

    def __init__(self, at_once: int) -> None:
        """Begin without any; `at_once` are asked at the same time, the others wait."""
        self._at_once = at_once
        self._taken = 0
        self._answers = 0
        self._mean_seconds = 0.0

    @property
    def wait_seconds(self) -> float:
        """Return how long one more question would wait; 0.0 too while no answer has been seen."""
        ahead = max(self._taken - self._at_once + 1, 0)
        return ahead * self._mean_seconds / self._at_once

    def take(self) -> None:
        """A question is asked, or waits."""
        self._taken += 1

    def give_back(self) -> None:
        """It has ended, whether it was asked or not."""
        self._taken -= 1

    def note_answer(self, seconds: float) -> None:
        """An answer has taken so long, from the moment the scanner was asked."""
        self._answers = min(self._answers + 1, _ANSWERS)
        self._mean_seconds += (seconds - self._mean_seconds) / self._answers
