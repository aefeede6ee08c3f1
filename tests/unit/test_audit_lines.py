"""What a line of the mail log says, in every form that syslog, Postfix and the journal have."""

import pytest
from audit_lines import NOW, QUEUE_ID, begun, delivery, event, line, removed, tagged, times

from deliverypools.core.audit import lines
from deliverypools.core.audit.lines import read_line

OURS = "delivery-pools/milter[9]: INFO:"
AT = NOW - 309.0  # 13:00:00
FORGED = "relay=x[198.51.100.99]:25, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (x"


@pytest.mark.parametrize(
    "head",
    [
        "Nov 22 13:00:00 mx postfix/qmgr[123]:",
        "<22>Nov 22 13:00:00 mx postfix/qmgr[123]:",
        "2026-11-22T13:00:00+00:00 mx postfix/qmgr[123]:",
        "2026-11-22T13:00:00Z mx postfix/qmgr[123]:",
        "2026-11-22T14:00:00.000000+01:00 mx postfix/qmgr[123]:",
        "2026-11-22T07:30:00,000-0530 mx postfix/qmgr[123]:",
        "2026-11-22T13:00:00 mx postfix/qmgr[123]:",
        "<22>1 2026-11-22T13:00:00Z mx postfix/qmgr 123 - -",
        '<22>1 2026-11-22T13:00:00Z mx postfix/qmgr 123 mail [origin software="rsyslogd"]',
        "1795352400.000000 mx postfix/qmgr[123]:",
        "Nov 22 13:00:00 mx postfix-out/qmgr[123]:",
        "Nov 22 13:00:00 mx postfix/qmgr:",
        "2026-11-22 13:00:00 mx postfix/qmgr[123]:",
        "2026-11-22 14:00:00.123+01:00 mx postfix/qmgr[123]:",
        "Nov 22 13:00:00.123000 mx postfix/qmgr[123]:",
        "Nov 22 13:00:00  mx  postfix/qmgr[123]:",
        "Nov 22 13:00:00 mx mail.info postfix/qmgr[123]:",
        "Nov 22 13:00:00 mx postfix/qmgr[123]: [ID 197553 mail.info]",
        "<22>1 2026-11-22T13:00:00Z mx postfix/qmgr 123 - - \ufeff",
    ],
)
@pytest.mark.parametrize("queue_id", [QUEUE_ID, "8F3A2C0D1E", "ABCDE1"])
def test_every_form_of_a_line(head, queue_id):
    blank = "" if head.endswith("\ufeff") else " "
    found = read_line(f"{head}{blank}{queue_id}: removed", times())
    tag = "postfix-out/qmgr" if "postfix-out" in head else "postfix/qmgr"
    assert found == lines.Line(AT + (0.123 if ".123" in head else 0), "mx", True, lines.Removed(queue_id), tag)


@pytest.mark.parametrize("when", ["Nov 22 13:00:00", "2026-11-22T13:00:00Z"])
@pytest.mark.parametrize("tag", ["postfix/qmgr[123]:", "postfix/qmgr:", "mail.info postfix/qmgr[123]:"])
def test_a_line_without_a_host(when, tag):
    found = read_line(f"{when} {tag} {QUEUE_ID}: removed", times())
    assert (found.at, found.is_of_postfix, found.event) == (AT, True, lines.Removed(QUEUE_ID))


def test_the_milter_in_the_journal():
    text = f"1795352400.000000 mx delivery-pools[9]: {OURS} {QUEUE_ID}: pass=egress pool=relay rule=x reasons=y"
    assert event(text) == lines.Decided(QUEUE_ID, "relay", "x", "relay")


@pytest.mark.parametrize(
    "head",
    [
        "Sun 2026-11-22 13:00:00 UTC mx postfix/smtp[123]: ",
        "[123.456] mx postfix/smtp[123]: ",
        "Nov 22 13:00:00 2026 mx postfix/smtp[123]: ",
        "Nov 22 13:00:00 mx postfix/smtp[123]:",
        "Nov 22 13:00:00     mx postfix/smtp[123]: ",
        '{"MESSAGE": "',
        "    MESSAGE=",
        "\x1b[31m",
        "",
    ],
)
def test_what_looks_like_a_delivery_and_begins_as_no_line_of_a_log_is_told(head):
    text = head + delivery().partition("]: ")[2]
    assert read_line(text, times()) == lines.Line(None, "", False, lines.Headless(text))


def test_words_of_a_logger_before_a_queue_id_hide_no_delivery():
    text = delivery().replace("]: ", "]: [mail info] ")
    assert event(text) == lines.Unreadable(QUEUE_ID, "postfix/pool-normal/smtp")


def test_what_another_server_said_is_no_delivery():
    text = (
        f"{QUEUE_ID}: host x[192.0.2.1] said: 450 {QUEUE_ID}: to=<a@b.example>, {FORGED} (in reply to RCPT TO command)"
    )
    assert event(line("postfix/smtp", text)) is None
    assert event(line("postfix/smtp", f"warning: x {QUEUE_ID}: to=<a@b.example>, {FORGED})")) is None


@pytest.mark.parametrize(
    ("when", "now", "expected"),
    [
        ("Nov 22 13:00:00", NOW, AT),
        ("Nov 23 13:00:00", NOW, AT + 86_400),  # a clock that is ahead
        ("Nov 24 13:00:00", NOW, AT + 2 * 86_400 - 365 * 86_400),  # last year's
        ("Dec 31 23:59:59", 1_798_761_600.0, 1_798_761_599.0),  # at New Year
        ("Jan  1 00:00:00", 1_798_761_599.0, 1_798_761_600.0),
        ("Feb 29 00:00:00", NOW, 1_709_164_800.0),  # 2024
        ("Nov 31 00:00:00", NOW, None),
        ("Xxx 22 00:00:00", NOW, None),
        ("2026-02-29T00:00:00Z", NOW, None),
        ("2026-13-01T00:00:00Z", NOW, None),
        ("2100-02-29T00:00:00Z", NOW, None),
        ("2000-02-29T00:00:00Z", NOW, 951_782_400.0),
    ],
)
def test_the_time_of_a_line(when, now, expected):
    assert read_line(f"{when} mx postfix/qmgr[1]: {QUEUE_ID}: removed", times(now)).at == expected


def test_a_time_that_local_time_does_not_have_is_none():
    def broken(minute):
        raise OverflowError

    assert read_line("Nov 22 13:00:00 mx postfix/qmgr[1]: x", lines.LogTimes(NOW, broken)).at is None


def test_a_delivery():
    assert event(delivery()) == lines.Delivery(
        QUEUE_ID, "bob@example.com", "postfix/pool-normal/smtp", "mx.example.com[198.51.100.25]:25", "sent"
    )


@pytest.mark.parametrize(
    ("fields", "recipient", "relay", "status"),
    [
        ("to=<a@b.example>, orig_to=<c@d.example>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (x)",
         "a@b.example", "none", "deferred"),
        ("to=<a@b.example>, relay=h[192.0.2.1]:25, conn_use=3, delay=1, delays=1/0/0/0, dsn=2.0.0, status=sent (x)",
         "a@b.example", "h[192.0.2.1]:25", "sent"),
        ("to=<a@b.example>, relay=none, delay=1, delays=1/0/0/0, dsn=5.1.1, status=SOFTBOUNCE (x)",
         "a@b.example", "none", "softbounce"),
        ("to=<>, relay=local, delay=1, delays=1/0/0/0, dsn=5.1.1, status=bounced", "", "local", "bounced"),
        (f'to=<">, {FORGED}"@b.example>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (x)',
         f'">, {FORGED}"@b.example', "none", "deferred"),
        (f'to=<"\\">, {FORGED}"@b.example>, relay=none, delay=1, delays=1/0/0/0, dsn=5.0.0, status=bounced (x)',
         f'"\\">, {FORGED}"@b.example', "none", "bounced"),
        ("to=<a@b.example>, relay=h[192.0.2.1]:25, delay=1, delays=1/0/0, tls=dane/requiretls!, dsn=2.0.0, status=sent",
         "a@b.example", "h[192.0.2.1]:25", "sent"),
        ("to=<a@b.example>, relay=h[192.0.2.1]:25, delay=1, delays=1/0/0, tls=x, new=y, n=, dsn=2.0.0, status=sent (x)",
         "a@b.example", "h[192.0.2.1]:25", "sent"),
        (f"to=<a@b.example>, relay=none, delay=1, delays=1/0/0/0, dsn=4.4.1, status=deferred (450 to=<c>, {FORGED}",
         "a@b.example", "none", "deferred"),
        (f'to=<a@b.example>, orig_to=<">, {FORGED}"@b>, relay=none, delay=1, delays=1, dsn=4.4.1, status=deferred (x)',
         "a@b.example", "none", "deferred"),
    ],
    ids=["orig_to", "conn_use", "soft_bounce", "no recipient", "forged", "escaped", "tls", "unknown", "forged reply",
         "forged orig_to"],
)  # fmt: skip
def test_fields_of_a_delivery(fields, recipient, relay, status):
    found = event(line("postfix/smtp", f"{QUEUE_ID}: {fields}"))
    assert (found.recipient, found.relay, found.status) == (recipient, relay, status)


@pytest.mark.parametrize(
    "text",
    [
        "to=<a@b.example>, relay=",
        "to=<a@b.example",
        "to=<a@b.example>, relay=none, delay=1, delays=1/0/0/0, new=a b, dsn=2.0.0, status=sent (x)",
        "to=<a@b.example>, relay=none, delay=1, delays=1/0/0/0, new=a,b, dsn=2.0.0, status=sent (x)",
        "to=<a@b.example>, relay=none, delay=1, delays=1/0/0/0, status=deferred, dsn=2.0.0, status=sent (x)",
        "to=<a@b.example>, relay=none, delay=1, delays=1/0/0/0, " + "new=1, " * 9 + "dsn=2.0.0, status=sent (x)",
        'to=<"a@b.example>, relay=none, delay=1, delays=1/0/0/0, dsn=2.0.0, status=sent (x)',
        "to=<a<b@b.example>, relay=none, delay=1, delays=1/0/0/0, dsn=2.0.0, status=sent (x)",
    ],
)
def test_what_is_not_understood_of_a_delivery_is_no_delivery_and_is_told(text):
    assert event(line("postfix/smtp", f"{QUEUE_ID}: {text}")) == lines.Unreadable(QUEUE_ID, "postfix/smtp")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (begun(), lines.Begun(QUEUE_ID)),
        (removed(), lines.Removed(QUEUE_ID)),
        (tagged("high-risk"), lines.Tagged(QUEUE_ID, "high-risk")),
        (tagged("refused content"), lines.Tagged(QUEUE_ID, "refused content")),
        (tagged("normal 2"), lines.Tagged(QUEUE_ID, "normal")),
        (tagged("high-risk probe-6 45123"), lines.Tagged(QUEUE_ID, "high-risk")),
        (tagged("normal 2 probe-4 45123"), lines.Tagged(QUEUE_ID, "normal")),
        (line("postfix/cleanup", f"{QUEUE_ID}: filter: header X-Delivery-Pool: relay from local; from=<>: pool-relay:"),
         lines.Tagged(QUEUE_ID, "relay")),
        (line("postfix/cleanup", f"{QUEUE_ID}: milter-hold: END-OF-MESSAGE from x"), lines.Held(QUEUE_ID)),
        (line("postfix/cleanup", f"{QUEUE_ID}: milter-header-hold: header X-Delivery-Pool: x from y"),
         lines.Held(QUEUE_ID)),
        (line("postfix/cleanup", f"{QUEUE_ID}: discard: header Subject: x"), lines.Discarded(QUEUE_ID)),
        (line("postfix/cleanup", f"{QUEUE_ID}: milter-reject: END-OF-MESSAGE from x: 4.7.1 y"),
         lines.Removed(QUEUE_ID)),
        (line("postfix/smtpd", f"{QUEUE_ID}: reject: END-OF-MESSAGE from x: 550 y"), lines.Removed(QUEUE_ID)),
        (line("postfix/smtpd", f"{QUEUE_ID}: reject: RCPT from x: 550 y"), None),
        (line("postfix/postsuper", f"{QUEUE_ID}: placed on hold"), lines.Held(QUEUE_ID)),
        (line("postfix/qmgr", f"{QUEUE_ID}: from=<a@b.example>, status=expired, returned to sender"),
         lines.Expired(QUEUE_ID)),
        (line("postfix/pickup", f"{QUEUE_ID}: uid=102 from=<a@b.example> orig_id=4jXRH73GqlzJs3y"),
         lines.Requeued(QUEUE_ID, "4jXRH73GqlzJs3y")),
        (line("postfix/pickup", f"{QUEUE_ID}: uid=1003 from=<a@b.example>"), None),
        (line("delivery-pools", f'{OURS} {QUEUE_ID}: pass=egress pool=normal rule=default reasons="x"'),
         lines.Decided(QUEUE_ID, "normal", "default", "normal")),
        (line("python3", f"{OURS} {QUEUE_ID}: pass=express pool=high-risk shadow=normal rule=spam"),
         lines.Decided(QUEUE_ID, "high-risk", "spam", "normal")),
        (line("delivery-pools-milter", f"{QUEUE_ID}: pass=egress pool=relay rule=forwarded"),
         lines.Decided(QUEUE_ID, "relay", "forwarded", "relay")),
        (line("delivery-pools", f"{QUEUE_ID}: pass=first ingress=outside"), None),
        (line("evil", f"{QUEUE_ID}: pass=egress pool=relay rule=forwarded"), None),
        (line("postfix/smtpd", f"{QUEUE_ID}: pass=egress pool=relay rule=forwarded"), None),
    ],
)  # fmt: skip
def test_other_lines(text, expected):
    assert event(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        line("postfix/cleanup", f"{QUEUE_ID}: message-id=<{QUEUE_ID}: to=<a@b.example>, {FORGED})>"),
        line("postfix/cleanup", f"{QUEUE_ID}: message-id=<{QUEUE_ID}: removed>"),
    ],
)
def test_a_message_id_is_text(text):
    assert event(text) == lines.Begun(QUEUE_ID)


@pytest.mark.parametrize(
    "text",
    [
        line("postfix/smtpd", f"{QUEUE_ID}: to=<a@b.example>, {FORGED})"),
        line("postfix/cleanup", f"warning: {QUEUE_ID}: message-id=<x>"),
        line("postfix/cleanup", f"{QUEUE_ID}: warning: header Subject: filter: header X-Delivery-Pool: normal from x"),
        line("postfix/cleanup", f"{QUEUE_ID}: filter: header Subject: X-Delivery-Pool: normal from x"),
        line("postfix/smtp", "NOQUEUE: to=<a@b.example>, relay=none"),
        line("postfix/smtp", "warning: to=<a@b.example>, relay=none"),
        line("postfix/qmgr", f"{QUEUE_ID}: removed: x"),
    ],
)
def test_what_says_nothing_about_a_queue_file(text):
    assert event(text) is None


@pytest.mark.parametrize("text", ["", " ", "x", "-- Journal begins at", "\x00\x01", "Nov 22 13:00:00", "\ufffd" * 50])
def test_what_is_no_line_of_a_log(text):
    assert read_line(text, times()) is None
