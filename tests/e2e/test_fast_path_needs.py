"""Each condition of the fast path is needed: without it mail goes wrong; with it mail takes the hop, and is right.

To see that, the fast path is forced open by a proof that nobody has made.
"""

from __future__ import annotations

import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mailing import ALICE, arrived, fresh, fresh_subject, left_with, mail, submit

from deliverypools.adapters.fast_path import write_proof
from deliverypools.adapters.fast_path_steps import steps_to
from deliverypools.adapters.settings_file import load_settings
from deliverypools.core.fast_path import Proof, Step, settings_digest
from deliverypools.lab.lab import Lab
from deliverypools.lab.site import Site
from deliverypools.lab.waiting import wait_until

SOCKET = "inet:127.0.0.1:8899"
OURS = "$delivery_pools_milter"
HERE = "example.org, mx.example.org, srs.example.org, localhost"
OLD_ADDRESS = {"virtual_alias_maps": "inline:{{old@shop.example = bob@example.org}}", "local_recipient_maps": ""}
THERE = "there@example.com"
ALIAS = "inline:{{there@example.com = bob@example.org}}"
HIS_NAME = "inline:{{smith@host.example.org = smith@example.org}}"
"""Without it, the sender's domain does not exist."""
FILTER = "FILTER discard:"
BY_NORMAL = "there@example.com by normal"
BY_HIGH_RISK = "there@example.com by high-risk"
BOB = "in the mailbox bob"
RETURNED = "returned to alice"
MACRO = "milter_macro_defaults=delivery_pools_fast_path"
FAST_CLEANUP = """\
cleanup-fast unix n - y - 0 cleanup
  -o milter_header_checks=regexp:$config_directory/delivery-pools/tag_checks
"""
SUBMISSION = """\
submission inet n - y - - smtpd
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o milter_macro_daemon_name=SUBMISSION
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a site has that excludes the fast path."""

    reason: str
    """Begins what the proof says."""
    right: frozenset[str]
    """What becomes of a message, by the hop."""
    wrong: frozenset[str]
    """What would become of it."""
    main: dict[str, str] = field(default_factory=dict)
    master: str = ""
    files: dict[str, str] = field(default_factory=dict)
    sender: str = "alice@example.org"
    recipient: str = THERE
    milter: tuple[str, ...] = ()
    policy: str = ""
    """What a policy service of the site answers."""


def case(reason: str, right: set[str], wrong: set[str], **more: object) -> Case:
    return Case(reason=reason, right=frozenset(right), wrong=frozenset(wrong), **more)  # type: ignore[arg-type]


CASES = {
    # ---- other recipients: by FILTER, one of ours goes to the MX of our own domain, which is this host
    "alias": case("virtual_alias_maps", {BOB}, {RETURNED}, main={"virtual_alias_maps": ALIAS}),
    "alias by a pattern": case(
        "virtual_alias_maps",
        {BOB},
        {RETURNED},
        main={"virtual_alias_maps": "regexp:{config}/p"},
        files={"p": "/^there@/ bob@example.org\n"},
    ),
    "bare keys of another myorigin": case(
        "virtual_alias_maps",
        {BOB},
        {RETURNED},
        main={"myorigin": "example.com", "virtual_alias_maps": "inline:{{there = bob@example.org}}"},
    ),
    **{
        f"bare keys of another {parameter}, of cleanup-fast": case(
            "virtual_alias_maps",
            {BOB},
            {RETURNED},
            main={"virtual_alias_maps": "inline:{{there = bob@example.org}}"},
            master=f"{FAST_CLEANUP}  -o {parameter}=example.com\n",
        )
        for parameter in ("myorigin", "mydestination")
    },
    **{
        f"alias of a domain that is delivered here, {why}": case(
            "virtual_alias_maps",
            {BOB},
            {RETURNED},
            main=OLD_ADDRESS | {"mydestination": f"{names}, {HERE}", "transport_maps": routes},
            recipient="old@shop.example",
        )
        for why, names, routes in (
            ("but led to the hop", "shop.example", "inline:{{shop.example = egress:[127.0.0.1]:10027}}"),
            ("but for this address", "shop.example", "inline:{{old@shop.example = egress:[127.0.0.1]:10027}}"),
            ("with an exception", "!shop.example, inline:{{shop.example = x}}", ""),
        )
    },
    "canonical recipient": case(
        "recipient_canonical_maps", {BOB}, {RETURNED}, main={"recipient_canonical_maps": ALIAS}
    ),
    "canonical address": case(
        "canonical_maps",
        {BOB},
        {RETURNED},
        main={"canonical_maps": ALIAS, "canonical_classes": "envelope_recipient"},
    ),
    "masqueraded recipient": case(
        "masquerade_domains",
        {BOB},
        {RETURNED},
        main={"masquerade_domains": "example.org", "masquerade_classes": "envelope_recipient"},
        recipient="bob@host.example.org",
    ),
    # ---- further recipients: copies for which Postfix asks for no notice are lost without one
    "copies of all": case("always_bcc", {BY_NORMAL, BOB}, {BY_NORMAL}, main={"always_bcc": "bob@example.org"}),
    "copies by sender": case(
        "sender_bcc_maps",
        {BY_NORMAL, BOB},
        {BY_NORMAL},
        main={"sender_bcc_maps": "inline:{{alice@example.org = bob@example.org}}"},
    ),
    "copies by recipient": case(
        "recipient_bcc_maps",
        {BY_NORMAL, BOB},
        {BY_NORMAL},
        main={"recipient_bcc_maps": "inline:{{@example.com = bob@example.org}}"},
    ),
    "BCC in a header check": case(
        "header_checks",
        {BY_NORMAL, BOB},
        {BY_NORMAL},
        main={"header_checks": "regexp:{{/^From:/ BCC bob@example.org}}"},
    ),
    "BCC in an access table": case(
        "smtpd_data_restrictions",
        {BY_NORMAL, BOB},
        {BY_NORMAL, RETURNED},
        main={"smtpd_data_restrictions": "check_sender_access inline:{{alice@example.org = BCC bob@example.org}}"},
    ),
    "a milter in front that adds recipients": case(
        f"smtpd_milters: {SOCKET} may add recipients",
        {BY_NORMAL, BOB},
        {BY_NORMAL, RETURNED},
        main={"smtpd_milters": f"{SOCKET}, {OURS}"},
        milter=("add", "<bob@example.org>"),
    ),
    "a milter behind that adds recipients": case(
        f"smtpd_milters: {SOCKET} comes after ours",
        {BY_NORMAL, BOB},
        {BY_NORMAL, RETURNED},
        main={"smtpd_milters": f"{OURS}, {SOCKET}"},
        milter=("add", "<bob@example.org>"),
    ),
    "a milter for some clients that adds recipients": case(
        "smtpd_milter_maps",
        {BY_NORMAL, BOB},
        {BY_NORMAL, RETURNED},
        main={"smtpd_milter_maps": f"static:{{{SOCKET}, {OURS}}}"},
        milter=("add", "<bob@example.org>"),
    ),
    # ---- another sender: it is decided about one, and another one leaves
    **{
        f"{parameter}, of the sender": case(
            parameter, {BY_NORMAL}, {BY_HIGH_RISK}, main={parameter: value} | more, sender="smith@host.example.org"
        )
        for parameter, value, more in (
            ("sender_canonical_maps", HIS_NAME, {}),
            ("canonical_maps", HIS_NAME, {"canonical_classes": "envelope_sender"}),
            ("masquerade_domains", "example.org", {}),
        )
    },
    # ---- another way: FILTER of ours replaces that of the site, and all routes
    "a content filter": case(
        "smtp/inet: content_filter", set(), {BY_NORMAL}, main={"content_filter": "discard:nowhere"}
    ),
    "FILTER in a header check": case(
        "header_checks", set(), {BY_NORMAL}, main={"header_checks": f"regexp:{{{{/^From:/ {FILTER}}}}}"}
    ),
    "FILTER in a body check": case(
        "body_checks", set(), {BY_NORMAL}, main={"body_checks": f"regexp:{{{{/hello/ {FILTER}}}}}"}
    ),
    "FILTER in an access table": case(
        "smtpd_data_restrictions",
        set(),
        {BY_NORMAL},
        main={"smtpd_data_restrictions": f"check_sender_access inline:{{{{alice@example.org = {FILTER}}}}}"},
    ),
    "FILTER of a restriction class": case(
        "strict",
        set(),
        {BY_NORMAL},
        main={
            "smtpd_restriction_classes": "strict",
            "strict": f"check_sender_access inline:{{{{alice@example.org = {FILTER}}}}}",
            "smtpd_data_restrictions": "check_sender_access inline:{{alice@example.org = strict}}",
        },
    ),
    "FILTER of a policy service": case(
        "smtpd_data_restrictions",
        set(),
        {BY_NORMAL},
        main={"smtpd_data_restrictions": f"check_policy_service {SOCKET}"},
        policy=FILTER,
    ),
    "FILTER for what another milter says": case(
        "cleanup-fast/unix: milter_header_checks",
        set(),
        {BY_NORMAL},
        main={"smtpd_milters": f"{SOCKET}, {OURS}"},
        master=FAST_CLEANUP.replace("/tag_checks", "/tag_checks,regexp:$config_directory/m"),
        files={"m": f"/^X-Site:/ {FILTER}\n"},
        milter=("header", "X-Site", "yes"),
    ),
    "other routes for a door": case(
        "submission/inet: rewrite_service_name",
        set(),
        {BY_NORMAL},
        main={"transport_maps": "inline:{{example.com = discard:}}"},
        master="rewrite2 unix - - y - - trivial-rewrite\n  -o transport_maps=\n"
        f"{SUBMISSION}  -o rewrite_service_name=rewrite2\n",
    ),
    "other routes for the queue manager": case(
        "qmgr/unix: rewrite_service_name",
        set(),
        {BY_NORMAL},
        main={"own_routes": "inline:{{example.com = discard:}}"},
        master="rewrite2 unix - - y - - trivial-rewrite\n  -o transport_maps=$own_routes\n"
        "qmgr unix n - n 300 1 qmgr\n  -o rewrite_service_name=rewrite2\n",
    ),
}


@pytest.fixture
def make(make_lab: Callable[..., Lab]) -> Iterator[Callable[[Case], Lab]]:
    with ExitStack() as at_end:

        def made(wanted: Case) -> Lab:
            site = Site(adapted=wanted.main, adapted_master=wanted.master, files=wanted.files)
            lab = make_lab(site=site)
            if wanted.milter:
                at_end.enter_context(changing(lab, wanted.milter))
            if wanted.policy:
                at_end.enter_context(answering(lab, wanted.policy))
            return lab

        yield made


@contextmanager
def changing(lab: Lab, words: tuple[str, ...]) -> Iterator[None]:
    with lab.network.inside():
        milter = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "changing_milter.py", _pymilters(SOCKET), *words]
        )
    try:
        wait_until(lambda: _listens(lab), timeout_seconds=20, what="the site's milter")
        yield
    finally:
        milter.send_signal(signal.SIGKILL)
        milter.wait()


@contextmanager
def answering(lab: Lab, action: str) -> Iterator[None]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if line == b"\n":
                    self.wfile.write(f"action={action}\n\n".encode())

    with lab.network.inside():
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 8899), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _pymilters(endpoint: str) -> str:
    kind, host, port = endpoint.split(":")
    return f"{kind}:{port}@{host}"


def _listens(lab: Lab) -> bool:
    with lab.network.inside():
        table = Path("/proc/thread-self/net/tcp").read_text(encoding="ascii")
    return any(line.split()[1].endswith(":22C3") and line.split()[3] == "0A" for line in table.splitlines()[1:])


def force_open(lab: Lab) -> None:
    """Write a proof as if nothing excluded the fast path."""
    settings = load_settings(lab.settings_file)
    main = lab.postfix.config_directory / "main.cf"
    write_proof(
        settings,
        Proof(
            config_directory=str(main.parent),
            made_at=time.time(),
            settings=settings_digest(settings),
            hop="[127.0.0.1]:10027",
            is_reloaded=True,
            hostnames=("mx.example.org",),
            steps={path: Step(found.identity, 0.0) for path, found in steps_to([str(main)]).items()},
        ),
    )


def outcome(lab: Lab, subject: str) -> set[str]:
    """Return what became of a message, when nothing of it is left in the queue."""
    lab.wait_until_queue_is_empty()
    found = {f"{one} by {lab.pool_of(message)}" for message in left_with(lab, subject) for one in message.recipients}
    for name in ("alice", "bob"):
        for message in lab.mailbox(name):
            if message["Subject"] == subject:
                found.add(f"in the mailbox {name}")
            elif f"Subject: {subject}\n" in message.as_string() and name == "alice":
                found.add("returned to alice")
    return found


def send(lab: Lab, wanted: Case) -> tuple[str, list[str]]:
    """Send a message as alice; return its subject, and the passes that it went through at once."""
    subject = fresh_subject()
    message_id = f"<{fresh()}>"
    data = mail(wanted.sender, Subject=subject, Message_ID=message_id)
    result = lab.send(wanted.sender, wanted.recipient, data, port=587, auth=ALICE)
    assert result.accepted, result
    passes = re.findall(rf"pass=(\S+) .*message-id={re.escape(message_id)}$", lab.milter.log(), re.MULTILINE)
    return subject, passes[:1]


@pytest.mark.parametrize("name", CASES)
def test_condition(make: Callable[[Case], Lab], name: str):
    wanted = CASES[name]
    lab = make(wanted)
    proof = lab.prove_fast_path()
    assert any(one.startswith(wanted.reason) for one in proof.problems), proof.problems
    subject, passes = send(lab, wanted)
    assert passes == ["first"]
    assert outcome(lab, subject) == wanted.right
    force_open(lab)
    subject, passes = send(lab, wanted)
    assert passes == ["fast"]
    assert outcome(lab, subject) == wanted.wrong


def test_mail_on_hold_is_decided_when_it_leaves(make_lab: Callable[..., Lab]):
    """HOLD in a check: what is known by then counts, not what was known when it was put on hold."""
    checks = "regexp:{{/^X-Hold:/ HOLD}}"
    lab = make_lab(site=Site(adapted={"header_checks": checks}))
    assert f"header_checks: {checks}: /^X-Hold:/ HOLD" in lab.prove_fast_path().problems
    held, forced = fresh(), fresh()
    submit(lab, held, mail(X_Hold="yes"))
    force_open(lab)
    submit(lab, forced, mail(X_Hold="yes"))
    assert len(lab.postfix.queue()) == 2
    before = lab.milter.log().count("pass=egress")
    lab.postfix.postsuper("-H", "ALL")
    lab.postfix.flush()
    arrived(lab, held)
    arrived(lab, forced)
    assert lab.milter.log().count("pass=egress") == before + 1


ROUTES = {
    "transport_maps": {"transport_maps": "inline:{{example.com = discard:}}"},
    "transport_maps, a pattern": {"transport_maps": "regexp:{config}/p"},
    "by sender": {"sender_dependent_default_transport_maps": "inline:{{alice@example.org = discard:}}"},
    "relay_domains": {"relay_domains": "example.com", "relay_transport": "discard:"},
    "relocated users": {"relocated_maps": "inline:{{there@example.com = nowhere}}"},
    "a domain that is delivered here": {
        "virtual_mailbox_domains": "example.com",
        "virtual_transport": "discard:",
        "virtual_mailbox_maps": "static:yes",
    },
}


@pytest.mark.parametrize("main", ROUTES.values(), ids=ROUTES.keys())
def test_routes_are_no_condition(make_lab: Callable[..., Lab], main: dict[str, str]):
    """Postfix says at RCPT, by {rcpt_mailer}, that the recipient does not take the hop, or refuses it."""
    lab = make_lab(site=Site(adapted=main, files={"p": "/@example\\.com$/ discard:\n"}))
    lab.prove_fast_path()
    force_open(lab)
    data = mail(Subject=(subject := fresh_subject()))
    result = lab.send(ALICE[0], THERE, data, port=587, auth=ALICE)
    assert result.accepted == ("relocated_maps" not in main)
    assert outcome(lab, subject) == set()
    assert "pass=fast" not in lab.milter.log()


@pytest.mark.parametrize(
    "master",
    [
        f"{SUBMISSION}  -o cleanup_service_name=cleanup\n  -o {MACRO}=$config_directory\n",
        f"{SUBMISSION}  -o cleanup_service_name=cleanup-fast\n",
        "cleanup-fast unix n - y - 0 cleanup\n",
    ],
    ids=["the macro only", "the cleanup service only", "no rules for the tag"],
)
def test_half_set_up_it_takes_the_hop(make_lab: Callable[..., Lab], master: str):
    lab = make_lab(site=Site(adapted_master=master))
    assert not lab.prove_fast_path().holds
    force_open(lab)
    subject = fresh_subject()
    queue_id = submit(lab, THERE, mail(Subject=subject))
    assert outcome(lab, subject) == {BY_NORMAL}
    lab.postfix.wait_for_log(re.escape(f"{queue_id}: to=<{THERE}>, relay=127.0.0.1[127.0.0.1]:10027"))
