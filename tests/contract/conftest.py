"""Fixtures of the contract tests."""

import pytest
from invented import InventedClock


@pytest.fixture
def clock():
    return InventedClock()
