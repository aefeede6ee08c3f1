"""Sessions, SMTP clients and queued mail of before, while a Postfix that runs becomes ours, and the site's again."""

from __future__ import annotations

import json
import math
import re
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mailing import HIGH_RISK, NORMAL, arrived, forward, fresh, from_outside, from_trusted, mail, submit
from postfix_command import configuration, folder, postfix

from deliverypools.adapters.postfix_commands import PostfixError
from deliverypools.cli import change_over, postfix_uninstall
from deliverypools.cli.change_over import ChangeOver
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab, SendResult
from deliverypools.lab.receiver import ACCEPT, DEFER
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

SITE = "192.0.2.1"
DELAYED = {"minimal_backoff_time": "600s", "maximal_backoff_time": "600s", "default_process_limit": "60"}
"""What is deferred stays so until the queue is flushed."""
OURS = re.compile(rb"(?im)^X-Delivery-Pool|^\s+\.dp\.")
HELO = "mail.example.org"
TWO_ADDRESSES = {"pools": {"normal": {"addresses": ["192.0.2.10", "192.0.2.11", "2001:db8::10"], "helo": HELO}}}
ONE_ADDRESS = {"pools": {"normal": {"addresses": ["192.0.2.10", "2001:db8::10"], "helo": HELO}}}
SENDERS = [f"sender{number}@example.org" for number in range(8)]


def install(lab: Lab) -> None:
    answer = postfix(lab, "install")
    assert answer.status == 0, answer


def clean(lab: Lab) -> bool:
    return not any(OURS.search(message.data) for message in lab.messages)


def queue_with(lab: Lab, recipient: str) -> str:
    # What has just been delivered is listed without recipients for a moment.
    ids = {other["address"]: one["queue_id"] for one in lab.postfix.queue() for other in one["recipients"]}
    return str(ids[recipient])


# ---- sessions of before


def test_uninstall_is_not_finished_while_a_session_of_before_is_open(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none")
    before = configuration(lab)
    install(lab)
    with lab.session(client_address=TRUSTED_CLIENT) as smtp:
        smtp.sendmail("alice@example.org", ["first@example.com"], mail())
        arrived(lab, "first@example.com")
        lab.wait_until_queue_is_empty()
        for _ in range(2):
            answer = postfix(lab, "uninstall", "--settle", "2s", "--json")
            assert (answer.status, answer.json["uninstalled"]) == (0, False), answer
            assert answer.json["old_processes"] > 0
        smtp.sendmail("alice@example.org", ["late@example.com"], mail())
        late = arrived(lab, "late@example.com")
        assert (late.source_address, late.header("X-Delivery-Pool-Ticket")) == (SITE, None)
    done = postfix(lab, "uninstall", "--wait", "60s", "--json")
    assert done.json["uninstalled"], done
    assert configuration(lab) == before


def test_interrupted_before_the_reload_is_on_record_the_first_phase_is_done_again(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED))
    before = configuration(lab)
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "queued@example.net")
    lab.postfix.wait_until_deferred(1)
    assert postfix(lab, "uninstall", "--json").json["queued"] == 1
    path = lab.postfix.config_directory / "delivery-pools/before/manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["reload"]["ended_at"] is not None
    path.write_text(json.dumps(manifest | {"reload": None}))
    lab.postfix.postsuper("-d", "ALL")
    assert postfix(lab, "uninstall", "--json").json["uninstalled"]
    wait_until(lambda: lab.postfix.log().count(": reload -- ") >= 6, timeout_seconds=20, what="six reloads")
    assert lab.postfix.log().count(": reload -- ") == 6  # three of install, two of the first phase, one of the second
    assert configuration(lab) == before


# ---- between the two reloads


@pytest.mark.parametrize("goes_on_with", ["install", "uninstall"])
def test_ended_between_the_two_reloads_either_command_goes_on(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, goes_on_with: str
):
    lab = make_lab(profile="none")
    before, names = configuration(lab), folder(lab)
    with monkeypatch.context() as patch:
        patch.setattr(ChangeOver, "_covered", end)
        assert postfix(lab, "install").status != 0
    assert "strip_headers" in lab.postfix.postconf("-h", "smtp_header_checks")
    submit(lab, "meanwhile@example.com")
    assert arrived(lab, "meanwhile@example.com").source_address == SITE
    assert postfix(lab, goes_on_with).status == 0
    submit(lab, "then@example.com")
    assert (arrived(lab, "then@example.com").source_address in NORMAL) is (goes_on_with == "install")
    lab.wait_until_queue_is_empty()
    assert postfix(lab, "uninstall", "--wait", "30s", "--json").status == 0
    assert configuration(lab) == before
    assert folder(lab) == names
    assert clean(lab)


def end(*_: object) -> None:
    raise KeyboardInterrupt


def test_second_reload_refused_with_mail_of_ours_queued_keeps_taking_our_headers_off(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
):
    lab = make_lab(profile="none", site=Site(main=DELAYED))
    before = configuration(lab)
    lab.receiver.answer("example.net", DEFER)

    def refuse(*_: object) -> None:
        submit(lab, "ours@example.net")
        lab.postfix.wait_until_deferred(1)
        raise PostfixError("postfix: no")

    with monkeypatch.context() as patch:
        patch.setattr(change_over, "watch", refuse)
        answer = postfix(lab, "install")
    assert answer.status == 1
    assert "`delivery-pools postfix uninstall` finishes that" in answer.err
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.requeue("ALL")
    assert arrived(lab, "ours@example.net").source_address == SITE
    lab.wait_until_queue_is_empty()
    assert postfix(lab, "uninstall", "--wait", "30s", "--json").json["uninstalled"]
    assert configuration(lab) == before
    assert clean(lab)


# ---- under load


class Load:
    """Clients that send, what was accepted of it, and what may have been: nothing was answered in time."""

    def __init__(self, lab: Lab, clients: int) -> None:
        self.sent: list[str] = []
        self.unanswered: list[str] = []
        self._lab = lab
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(clients)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _send(self, client: int) -> None:
        number = 0
        while not self._stop.wait(0.05):
            number += 1
            recipient = f"load{client}-{number}@example.com"
            try:
                if self._lab.send("alice@example.org", recipient, mail(), client_address=TRUSTED_CLIENT).accepted:
                    self.sent.append(recipient)
            except (OSError, smtplib.SMTPException):
                self.unanswered.append(recipient)


def test_nothing_is_lost_doubled_or_shown_while_clients_send(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED))
    before = configuration(lab)
    load = Load(lab, 6)
    with load.running():
        for _ in range(2):
            install(lab)
            more = len(load.sent) + 20
            wait_until(lambda: len(load.sent) > more, timeout_seconds=180, what="mail by pools")  # noqa: B023
            wait_until(lambda: is_uninstalled(lab), timeout_seconds=240, what="end of the second phase")
    wait_until(lambda: is_empty_after_a_flush(lab), timeout_seconds=240, what="empty queue")
    got = Counter(recipient for message in lab.messages for recipient in message.recipients)
    assert Counter({recipient: n for recipient, n in got.items() if recipient not in load.unanswered}) == Counter(
        load.sent
    )
    assert max(got.values()) == 1
    assert {message.source_address for message in lab.messages} >= {SITE} | {"192.0.2.10"}
    assert clean(lab)
    assert configuration(lab) == before


def is_uninstalled(lab: Lab) -> bool:
    lab.postfix.flush()
    return bool(postfix(lab, "uninstall", "--settle", "20s", "--wait", "5s", "--json").json["uninstalled"])


def is_empty_after_a_flush(lab: Lab) -> bool:
    lab.postfix.flush()
    return lab.postfix.queue_size() == 0


# ---- rewritten senders


def test_bounces_to_rewritten_senders_are_led_back_until_the_end(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED, virtual={"alias@example.org": "x@example.com"}))
    before = configuration(lab)
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "keep@example.net")
    lab.postfix.wait_until_deferred(1)
    forward(lab, "alias", "someone@spf.example")
    rewritten = arrived(lab, "x@example.com").envelope_sender
    assert rewritten.endswith("@srs.example.org")
    assert postfix(lab, "uninstall", "--json").json["queued"] == 1
    bounce = bounce_to(lab, rewritten)
    assert bounce.accepted, bounce
    assert arrived(lab, "someone@spf.example").envelope_sender == ""
    lab.postfix.postsuper("-d", queue_with(lab, "keep@example.net"))
    done = postfix(lab, "uninstall", "--json")
    assert done.json["uninstalled"], done
    assert "bounces to rewritten senders (SRS) are refused from now on" in done.json["text"]
    assert configuration(lab) == before
    # An idle smtpd of before may take one more connection.
    wait_until(lambda: not bounce_to(lab, rewritten).accepted, timeout_seconds=20, what="refusal")


def bounce_to(lab: Lab, rewritten: str) -> SendResult:
    return lab.send("", rewritten, mail(sender="mailer-daemon@example.com"))


# ---- pools that change


def services(lab: Lab) -> set[str]:
    return {line.split()[0] for line in lab.postfix.postconf("-M").splitlines() if line.startswith("pool-")}


def test_mail_that_names_an_address_which_has_gone_leaves_by_the_pool(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", settings=TWO_ADDRESSES, site=Site(main=DELAYED))
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    queued = {sender: fresh("example.net") for sender in SENDERS}
    for sender, recipient in queued.items():
        from_trusted(lab, recipient, mail(sender=sender), sender=sender)
    lab.postfix.wait_until_deferred(len(SENDERS))
    # The daemons are told later: what they decide meanwhile has the tags of before.
    lab.write_settings(ONE_ADDRESS)
    answer = postfix(lab, "install", "--json")
    assert answer.status == 0, answer
    assert any(one["text"].startswith("pool-normal-2: ") for one in answer.json["remarks"])
    assert "pool-normal-2" in services(lab)
    meanwhile = {sender: fresh() for sender in SENDERS}
    for sender, recipient in meanwhile.items():
        from_trusted(lab, recipient, mail(sender=sender), sender=sender)
    for recipient in meanwhile.values():
        assert arrived(lab, recipient).source_address in NORMAL
    again = postfix(lab, "install", "--json")
    assert again.json["text"] == "already installed, nothing changed", again
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    for recipient in queued.values():
        assert arrived(lab, recipient).source_address in NORMAL
    lab.wait_until_queue_is_empty()
    assert postfix(lab, "install").status == 0
    assert "pool-normal-2" not in services(lab)


def test_mail_of_a_pool_that_has_gone_leaves_by_high_risk(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED))
    offers = {"addresses": ["192.0.2.11"], "helo": "offers.example.org"}
    pins = [{"sasl_username": "alice@example.org", "pool": "offers"}]
    lab.write_settings({"pools": {"offers": offers}, "pins": pins})
    lab.restart_milter()
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "offer@example.net")
    lab.postfix.wait_until_deferred(1)
    lab.write_settings({})
    lab.restart_milter()
    assert postfix(lab, "install").status == 0
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    assert arrived(lab, "offer@example.net").source_address in HIGH_RISK


# ---- headers of others, requeued by others


def test_strangers_header_does_not_keep_us(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED, virtual={"alias@example.org": "x@example.net"}))
    before = configuration(lab)
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "keep@example.net")
    lab.postfix.wait_until_deferred(1)
    assert postfix(lab, "uninstall", "--json").json["queued"] == 1
    hostile = mail(sender="erin@example.com", X_Delivery_Pool="normal")
    from_outside(lab, "alias@example.org", hostile)
    lab.postfix.wait_until_deferred(2)
    lab.postfix.postsuper("-d", queue_with(lab, "keep@example.net"))
    # As if the sessions of before had ended an hour ago.
    path = lab.postfix.config_directory / "delivery-pools/before/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["reload"]["ended_at"] -= 3600
    path.write_text(json.dumps(manifest))
    assert postfix(lab, "uninstall", "--json").json["uninstalled"]
    assert configuration(lab) == before


def test_strangers_header_does_not_keep_a_run_that_waits(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch):
    """When it began a session of before was open: until that has ended, the same header would be ours."""
    lab = make_lab(profile="none", site=Site(main=DELAYED, virtual={"alias@example.org": "x@example.net"}))
    before = configuration(lab)
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    monkeypatch.setattr(postfix_uninstall, "_CLOCK_SECONDS", 0.0)
    ours_until = postfix_uninstall._ours_until

    def hang_up_and_then_offer(reload):
        until = ours_until(reload)
        if until == math.inf:
            smtp.close()
        else:
            time.sleep(1.5)  # arrival times are whole seconds
            from_outside(lab, "alias@example.org", mail(sender="erin@example.com", X_Delivery_Pool="normal"))
        return until

    with lab.session(client_address=TRUSTED_CLIENT) as smtp:
        assert not postfix(lab, "uninstall", "--settle", "1s", "--json").json["uninstalled"]
        monkeypatch.setattr(postfix_uninstall, "_ours_until", hang_up_and_then_offer)
        done = postfix(lab, "uninstall", "--wait", "30s", "--json")
    assert done.json["uninstalled"], done
    assert lab.postfix.queue_size() == 1
    assert configuration(lab) == before


def test_requeued_by_hand_our_mail_is_clean(make_lab: Callable[..., Lab]):
    lab = make_lab(profile="none", site=Site(main=DELAYED, virtual={"alias@example.org": "x@example.net"}))
    install(lab)
    lab.receiver.answer("example.net", DEFER)
    submit(lab, "first@example.net")
    submit(lab, "held@example.net")
    lab.send("", ["notice@example.net"], mail(sender="mailer-daemon@example.org"), client_address="127.0.0.1")
    forward(lab, "alias", "someone@spf.example")
    lab.postfix.wait_until_deferred(4)
    lab.postfix.postsuper("-h", queue_with(lab, "held@example.net"))
    assert postfix(lab, "uninstall", "--json").json["queued"] == 4
    lab.postfix.requeue("ALL")
    lab.postfix.wait_until_deferred(4)
    assert postfix(lab, "uninstall", "--json").json["uninstalled"]
    lab.receiver.answer("example.net", ACCEPT)
    lab.postfix.flush()
    for recipient in ("first@example.net", "held@example.net", "notice@example.net", "x@example.net"):
        assert arrived(lab, recipient).source_address == SITE
    assert clean(lab)
