"""docs/failures.md, proved: milter, policy service, their sockets and keys, and Postfix itself fail."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from breakages import (
    hung,
    key_file_missing,
    key_file_replaced,
    killed,
    postfix_reloads,
    postfix_stopped,
    sockets_gone,
)
from failure_mail import PATIENCE_SECONDS, SETTINGS, SITE, Mail

from deliverypools.lab.lab import Lab
from deliverypools.lab.settings_file import merged

BREAKAGES: dict[str, Callable[[Lab], contextlib.AbstractContextManager[None]]] = {
    "milter_killed": lambda lab: killed(lab.milter),
    "milter_hung": lambda lab: hung(lab.milter),
    "milter_socket_gone": lambda lab: sockets_gone(lab, lab.milter, "milter.sock"),
    "policy_killed": lambda lab: killed(lab.policy),
    "policy_hung": lambda lab: hung(lab.policy),
    "policy_sockets_gone": lambda lab: sockets_gone(lab, lab.policy, "policy.sock", "socketmap.sock"),
    "key_file_missing": key_file_missing,
    "key_file_replaced": key_file_replaced,
    "postfix_reloads": postfix_reloads,
    "postfix_stopped": postfix_stopped,
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_every_kind_of_mail_meets_the_failure(make_lab: Callable[..., Lab], name: str):
    # Only mail that is undecided sees it: what was queued before the key was replaced.
    settings = merged(SETTINGS, {"milter": {"undecided_after": "12s"}}) if name == "key_file_replaced" else SETTINGS
    lab = make_lab(site=SITE, settings=settings)
    # Postfix waits 100 seconds for a socketmap, and so would its client.
    patience = 5.0 if name == "policy_hung" else PATIENCE_SECONDS
    Mail(lab, patience).meet(name, BREAKAGES[name](lab))
