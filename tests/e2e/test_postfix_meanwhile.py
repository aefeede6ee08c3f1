"""What goes on while install and uninstall run: mail that is being delivered, and an administrator's edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from mailing import NORMAL, arrived, fresh, submit
from postfix_command import configuration, folder, postfix

from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.cli import change_over, postfix_uninstall
from deliverypools.lab.lab import Lab
from deliverypools.lab.receiver import DEFER
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

DELAYED = {"minimal_backoff_time": "600s", "maximal_backoff_time": "600s"}
"""What is deferred stays so until the queue is flushed."""


# ---- mail that is being delivered

SLOW = Site(
    main=DELAYED | {"transport_maps": "inline:{{ slow.example=slow: }}", "relay_domains": "slow.example"},
    # In the queue directory.
    master=(
        "slow unix - n n - - pipe flags= user=games"
        " argv=/bin/sh -c { cat >/dev/null; while test ! -e released; do sleep 0.1; done; exit 67 }\n"
    ),
)
"""Delivers slowly, and then refuses."""


def submit_slowly(lab: Lab) -> None:
    submit(lab, "nobody@slow.example")
    wait_until(lambda: is_in_delivery(lab), timeout_seconds=20, what="slow delivery")


def is_in_delivery(lab: Lab) -> bool:
    return [one["queue_name"] for one in lab.postfix.queue()] == ["active"]


def assert_failure_is_told(lab: Lab) -> None:
    (Path(lab.postfix.queue_directory) / "released").touch()
    lab.wait_until_queue_is_empty()
    assert [message["Subject"] for message in lab.mailbox("alice")] == ["Undelivered Mail Returned to Sender"]


def test_failure_of_what_is_being_delivered_is_told_when_the_second_reload_fails(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
):
    lab = make_lab(profile="none", site=SLOW)

    def refuse(*_: object) -> None:
        submit_slowly(lab)
        raise PostfixError("nothing greets")

    with monkeypatch.context() as patch:
        patch.setattr(change_over, "watch", refuse)
        assert "was put back" in postfix(lab, "install", "--settle", "1s").err
    assert_failure_is_told(lab)


def test_failure_of_what_is_being_delivered_is_told_when_ours_comes_back(make_lab: Callable[..., Lab]):
    """As an uninstall leaves it: mail with a long queue id, and a Postfix that gives short ones again."""
    lab = make_lab(profile="none", site=replace(SLOW, main={**SLOW.main, "enable_long_queue_ids": "yes"}))
    submit_slowly(lab)
    lab.postfix.set_main({"enable_long_queue_ids": "no"})
    PostfixInstance(str(lab.postfix.config_directory)).reread()
    assert postfix(lab, "install", "--settle", "1s").status == 0
    assert_failure_is_told(lab)


# ---- an administrator's edits

EDITS = {"main.cf": "smtpd_helo_required = yes\n", "master.cf": "mine unix - - n - 1 discard\n"}


def edit(lab: Lab) -> None:
    for name, text in EDITS.items():
        with (lab.postfix.config_directory / name).open("a") as file:
            file.write(text)


def edits_in(lab: Lab) -> int:
    """How often both files hold them."""
    (number,) = {now.count(text.encode()) for now, text in zip(configuration(lab), EDITS.values(), strict=True)}
    return number


def edit_before(lab: Lab, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str) -> None:
    """Let an administrator edit both files once, before a step of a command."""
    real = getattr(module, step)

    def edited(*arguments: object) -> object:
        monkeypatch.undo()
        edit(lab)
        return real(*arguments)

    monkeypatch.setattr(module, step, edited)


def test_edits_while_install_and_uninstall_run_are_kept(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch):
    lab = make_lab(profile="none")
    before, names = configuration(lab), folder(lab)
    edit_before(lab, monkeypatch, change_over, "watch")
    answer = postfix(lab, "install")
    assert (answer.status, "stays as it is; mail leaves by the pools already" in answer.err) == (1, True), answer
    recipients = fresh(), fresh()
    submit(lab, recipients[0])
    assert postfix(lab, "install").status == 0
    submit(lab, recipients[1])
    assert all(arrived(lab, recipient).source_address in NORMAL for recipient in recipients)
    assert edits_in(lab) == 1
    lab.wait_until_queue_is_empty()
    edit_before(lab, monkeypatch, postfix_uninstall, "leaving")
    answer = postfix(lab, "uninstall")
    assert (answer.status, "stays as it is; nothing was changed" in answer.err) == (1, True), answer
    assert postfix(lab, "uninstall", "--wait", "30s", "--json").json["uninstalled"]
    assert edits_in(lab) == 2
    # How postconf breaks lines in a file that was edited is its own.
    assert [sorted(text.split()) for text in configuration(lab)] == [
        sorted(text.split() + 2 * edited.encode().split()) for text, edited in zip(before, EDITS.values(), strict=True)
    ]
    assert folder(lab) == names


# ---- what is queued before the hop


RELAY_ONLY = dict.fromkeys(("mydestination", "local_recipient_maps", "alias_maps", "virtual_alias_maps"), "")
NO_LOCAL_MAIL = RELAY_ONLY | {"relay_domains": "", "local_transport": "error:5.1.1 none"}


def test_mail_before_a_hop_that_goes_is_told_of(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED | NO_LOCAL_MAIL))
    without_srs = {"srs_domain": None, "srs_secret_file": None}
    lab.write_settings({"forwarding": without_srs})
    assert postfix(lab, "install", "--settle", "1s").status == 0
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "passed@example.net")
    lab.postfix.wait_until_deferred(1)
    lab.postfix.set_main({"defer_transports": "egress"})
    submit(lab, "waits@example.net")
    lab.postfix.wait_until_deferred(2)
    lab.write_settings({"profile": "express", "forwarding": without_srs})
    answer = postfix(lab, "install", "--dry-run", "--json")
    told = [one["text"] for one in answer.json["remarks"] if one["severity"] == "warning"]
    assert "queued messages (1) that have not passed the hop leave by high-risk: express has no hop" in told
