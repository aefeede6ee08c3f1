"""Remedies of checks whose cause `postfix install` takes away."""

from deliverypools.core.postfix_check.by_install import BY_INSTALL, MENDED_BY_INSTALL
from deliverypools.core.postfix_check.examine import CHECKS

REMEDIES = {one.name: one.remedy for one in CHECKS}


def test_all_of_them_are_checks():
    assert set(REMEDIES) >= MENDED_BY_INSTALL


def test_their_remedy_is_that_command_first():
    assert {name for name, remedy in REMEDIES.items() if remedy.startswith(BY_INSTALL)} == MENDED_BY_INSTALL
    assert REMEDIES["routes_out_of_date"].startswith("delivery-pools postfix install")
