"""The command line: `replay` of a mail log, also of a time before the installation."""

import gzip
from pathlib import Path

import pytest
from command_line import SETTINGS

from deliverypools.core.audit.times import LogTimes
from deliverypools.core.replay.fold import Messages
from deliverypools.core.replay.mail_lines import read_mail_line

LIMITS = "[limits]\nrecipients_per_day = {}\nmessages_per_minute = 0\n"
DAY = "2026-11-02"


def line(text, tag="smtpd", second=0, day=DAY):
    return f"{day}T10:{second // 60:02}:{second % 60:02}+00:00 mx1 postfix/{tag}[42]: {text}"


def sent(queue_id, client, sender="alice@example.org", recipients=("bob@example.com",), *, second=0, tag="smtp/smtp"):
    """A message as a Postfix without our hop logs it; `client` is what its first line says."""
    relay = "mx.example.com[198.51.100.25]:25"
    deliveries = [
        line(
            f"{queue_id}: to=<{one}>, relay={relay}, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok)",
            tag,
            second,
        )
        for one in recipients
    ]
    return [
        line(f"{queue_id}: {client}", "pickup" if client.startswith("uid=") else "smtpd", second),
        line(f"{queue_id}: message-id=<{queue_id}@example.org>", "cleanup", second),
        line(f"{queue_id}: from=<{sender}>, size=900, nrcpt={len(recipients)} (queue active)", "qmgr", second),
        *deliveries,
        line(f"{queue_id}: removed", "qmgr", second),
    ]


ALICE = "client=unknown[203.0.113.9], sasl_method=PLAIN, sasl_username=alice@example.org"
STRANGER = "client=mx.example.net[198.51.100.7]"


@pytest.fixture
def replay(run, tmp_path):
    def replay(lines, settings="", *options):
        log = tmp_path / "mail.log"
        log.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
        path = tmp_path / "pools.toml"
        path.write_text(SETTINGS.format(folder=tmp_path) + settings, encoding="utf-8")
        return run("replay", "--config", str(path), *options, str(log))

    return replay


def days(answer):
    (report,) = answer.json()
    return {(one["day"], one["pool"], one["rule"]): one["now"] for one in report["days"]}


class TestWhatLeaves:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            (sent("4Q1BCDFGHJKLM", ALICE), ("normal", "default")),
            (sent("4Q1BCDFGHJKLM", ALICE, "alice@elsewhere.example"), ("relay", "forwarded")),
            (sent("4Q1BCDFGHJKLM", ALICE, ""), ("high-risk", "delivery_status_notification")),
            (sent("4Q1BCDFGHJKLM", STRANGER, "eve@example.net"), ("relay", "forwarded")),
            (sent("4Q1BCDFGHJKLM", "uid=1000 from=<alice>", "alice@example.org"), ("normal", "default")),
            (sent("4Q1BCDFGHJKLM", "client=web[127.0.0.1]", "www@example.org"), ("normal", "default")),
        ],
        ids=["submission", "foreign sender", "null sender", "forward", "sendmail", "trusted"],
    )
    def test_by_which_pool(self, replay, lines, expected):
        answer = replay(lines, "", "--json")
        assert (answer.status, days(answer)) == (0, {(DAY, *expected): 1})

    def test_a_notice_of_bounce(self, replay):
        lines = sent("4Q1BCDFGHJKLM", STRANGER, "")[1:]
        assert days(replay(lines, "", "--json")) == {(DAY, "high-risk", "delivery_status_notification"): 1}

    def test_a_pin(self, replay):
        pin = '[[pins]]\nsasl_username = "alice@example.org"\npool = "relay"\n'
        assert days(replay(sent("4Q1BCDFGHJKLM", ALICE), pin, "--json")) == {(DAY, "relay", "pinned"): 1}

    def test_what_stays_inside_does_not_leave_and_is_counted(self, replay):
        lines = sent("4Q1BCDFGHJKLM", ALICE, recipients=["carol@example.org"], tag="local")
        (report,) = replay([*lines, *sent("4Q2BCDFGHJKLM", ALICE)], "", "--json").json()
        assert (report["messages"], sum(one["now"] for one in report["days"])) == (2, 1)

    def test_the_hop_is_no_second_message(self, replay):
        """Its copy comes from 127.0.0.1, and has the same Message-ID."""
        copy = [
            one.replace("4Q1BCDFGHJKLM: message-id", "4Q2BCDFGHJKLM: message-id")
            for one in sent("4Q1BCDFGHJKLM", ALICE)[1:2]
        ]
        hop = [
            line("4Q2BCDFGHJKLM: client=localhost[127.0.0.1]", "egress-in/smtpd"),
            *copy,
            line("4Q2BCDFGHJKLM: from=<alice@example.org>, size=950, nrcpt=1 (queue active)", "qmgr"),
        ]
        first = [
            one.replace("mx.example.com[198.51.100.25]:25", "127.0.0.1[127.0.0.1]:10027").replace(
                "smtp/smtp", "egress/smtp"
            )
            for one in sent("4Q1BCDFGHJKLM", ALICE)
        ]
        out = [
            one.replace("4Q1BCDFGHJKLM", "4Q2BCDFGHJKLM").replace("smtp/smtp", "pool-normal/smtp")
            for one in sent("4Q1BCDFGHJKLM", ALICE)
        ]
        (report,) = replay([*first[:3], *hop, *first[3:], *out[3:]], "", "--json").json()
        assert report["messages"] == 1
        assert [(one["pool"], one["rule"], one["now"]) for one in report["days"]] == [("normal", "default", 1)]

    def test_a_forward_is_charged_to_its_mailbox(self, replay):
        """local(8) makes a queue file that no client has brought."""
        arrived = sent("4Q1BCDFGHJKLM", STRANGER, "eve@example.net", ["bob@example.org"], tag="local")
        forward = [
            line("4Q2BCDFGHJKLM: message-id=<4Q1BCDFGHJKLM@example.org>", "cleanup"),
            *(
                one.replace("4Q1BCDFGHJKLM", "4Q2BCDFGHJKLM")
                for one in sent("4Q1BCDFGHJKLM", STRANGER, "eve@example.net", ["x@example.com"])[2:]
            ),
        ]
        (report,) = replay([*arrived, *forward], LIMITS.format(1), "--json").json()
        assert [(one["pool"], one["rule"]) for one in report["days"]] == [("relay", "forwarded")]
        (again,) = replay([*arrived, *forward] * 2, LIMITS.format(1), "--json").json()
        assert [one["account"] for one in again["accounts"]] == ["bob@example.org"]

    def test_what_a_log_does_not_tell_is_counted_as_such(self, replay):
        (report,) = replay(sent("4Q1BCDFGHJKLM", STRANGER, "eve@example.net"), "", "--json").json()
        assert report["not_judged"] == {
            "whether forwarded mail was authenticated (SPF, DKIM, DMARC)": 1,
            "which mailbox has forwarded it": 1,
            "whether the sender's domain has MX or A (DNS)": 1,
        }

    def test_a_log_that_begins_too_late(self, replay):
        lines = sent("4Q1BCDFGHJKLM", ALICE)
        (report,) = replay([*lines[2:], *sent("4Q2BCDFGHJKLM", ALICE)], "", "--json").json()
        assert report["messages"] == 1


class TestLimits:
    LINES = (
        *sent("4Q1BCDFGHJKLM", ALICE, recipients=["a@example.com", "b@example.com"]),
        *sent("4Q2BCDFGHJKLM", ALICE, recipients=["c@example.com", "d@example.com"], second=60),
        *sent("4Q3BCDFGHJKLM", ALICE, second=120),
    )

    @pytest.mark.parametrize(
        ("most", "by_high_risk"), [(5, 0), (4, 1), (3, 2), (0, 0)], ids=["never", "the last", "two", "no limit"]
    )
    def test_what_is_beyond_leaves_by_high_risk(self, replay, most, by_high_risk):
        found = days(replay(self.LINES, LIMITS.format(most), "--json"))
        assert found.get((DAY, "high-risk", "over_limit"), 0) == by_high_risk
        assert sum(found.values()) == 3

    def test_the_accounts(self, replay):
        (report,) = replay(self.LINES, LIMITS.format(3), "--json").json()
        (alice,) = report["accounts"]
        assert (alice["account"], alice["over_limit"], alice["refused"]) == ("alice@example.org", 2, 0)
        assert "2 recipients in 24 hours and 2 more, the limit is 3" in alice["evidence"]

    def test_a_restriction_refuses_the_rest_until_the_next_day(self, replay):
        policy = (
            '[[outbound_policies]]\nname = "default"\nrecipients_per_day = 3\nover_limit = "restrict-until-tomorrow"\n'
        )
        tomorrow = [one.replace(DAY, "2026-11-04") for one in sent("4Q4BCDFGHJKLM", ALICE)]
        answer = replay([*self.LINES, *tomorrow], policy, "--json")
        assert days(answer) == {
            (DAY, "normal", "default"): 1,
            (DAY, "refused", "restricted_sender"): 2,
            ("2026-11-04", "normal", "default"): 1,
        }
        (alice,) = answer.json()[0]["accounts"]
        assert (alice["over_limit"], alice["refused"], alice["restricted_at"] is not None) == (1, 2, True)

    def test_shadow_changes_nothing_here(self, replay, run, config, tmp_path):
        replay(self.LINES)
        text = "shadow = true\n" + SETTINGS.format(folder=tmp_path) + LIMITS.format(3)
        Path(config).write_text(text, encoding="utf-8")
        answer = run("replay", "--config", config, "--json", str(tmp_path / "mail.log"))
        assert days(answer)[DAY, "high-risk", "over_limit"] == 2

    def test_compared_with_other_settings(self, replay, tmp_path):
        other = tmp_path / "old.toml"
        other.write_text(SETTINGS.format(folder=tmp_path) + LIMITS.format(0), encoding="utf-8")
        answer = replay(self.LINES, LIMITS.format(3), "--compare", str(other))
        rows = [one.split() for one in answer.out.splitlines() if one.startswith(DAY)]
        assert rows == [
            [DAY, "high-risk", "over_limit", "0", "2"],
            [DAY, "normal", "default", "3", "1"],
        ]


class TestCommandLine:
    def test_as_people_read_it(self, replay):
        answer = replay(TestLimits.LINES, LIMITS.format(3))
        assert answer.status == 0
        assert "3 messages in 17 lines\n" in answer.out
        assert "1 accounts would have been over a limit\n  alice@example.org: 2 messages over a limit\n" in answer.out

    def test_packed_and_rotated_files(self, run, config, tmp_path):
        old, new = tmp_path / "mail.log.1.gz", tmp_path / "mail.log"
        old.write_bytes(gzip.compress("\n".join([*sent("4Q1BCDFGHJKLM", ALICE), ""]).encode()))
        new.write_text("\n".join([*sent("4Q2BCDFGHJKLM", ALICE, second=90), ""]), encoding="utf-8")
        (report,) = run("replay", "--config", config, "--json", str(new), str(old)).json()
        assert report["messages"] == 2

    def test_since(self, replay):
        late = [one.replace(DAY, "2026-11-04") for one in sent("4Q4BCDFGHJKLM", ALICE)]
        answer = replay([*TestLimits.LINES, *late], "", "--json", "--since", "2026-11-03")
        assert days(answer) == {("2026-11-04", "normal", "default"): 1}

    def test_an_empty_file_beside_a_full_one(self, replay, tmp_path):
        (tmp_path / "empty.log").touch()
        answer = replay(sent("A" * 10, ALICE), "", str(tmp_path / "empty.log"))
        assert answer.status == 1
        assert "empty.log: nothing in it is Postfix's" in answer.err

    def test_probes_are_no_mail_and_numbers_add_up(self, replay):
        lines = [
            *sent("A" * 10, ALICE),
            *sent("B" * 10, ALICE, recipients=("carol@example.org",), second=10),
            *sent("C" * 10, "uid=0 from=<>", "", ("probe-1-0@delivery-pools-probe.invalid",), second=20),
            *sent("D" * 10, STRANGER, "eve@example.net", second=30),
        ]
        answer = replay(lines, "", "--json")
        (report,) = answer.json()
        assert (report["messages"], report["outcomes"], report["stayed_inside"]) == (2, 1, 1)
        assert report["further_decisions"] == 1
        assert sum(one["now"] for one in report["days"]) == report["outcomes"] + report["further_decisions"]
        assert "1 left, or were refused; 1 stayed inside" in replay(lines).out

    def test_nothing_in_it(self, replay):
        answer = replay(["Nov 22 10:00:00 mx1 cron[1]: hello"])
        assert answer.status == 1
        assert "mail.log: nothing in it is Postfix's" in answer.err

    def test_a_file_that_is_not_there(self, run, config):
        answer = run("replay", "--config", config, "/nonexistent/mail.log")
        assert (answer.status, "No such file" in answer.err) == (1, True)

    @pytest.mark.parametrize("arguments", [(), ("--journal", "mail.log"), ("--decisions", "--journal")])
    def test_one_source(self, run, config, arguments):
        assert run("replay", "--config", config, *arguments).status == 2

    def test_hostile_lines(self, replay):
        hostile = [
            line("4Q1BCDFGHJKLM: client=" + "[" * 5000),
            line("4Q1BCDFGHJKLM: message-id=<" + "\x1b[31m" * 200 + ">", "cleanup"),
            line('4Q1BCDFGHJKLM: from=<"' + '\\"' * 4000 + ">, size=1, nrcpt=1 (queue active)", "qmgr"),
            line("4Q9BCDFGHJKLM: client=a[203.0.113.9], sasl_username=\x1b[2J, sasl_method=x"),
            line("4Q9BCDFGHJKLM: message-id=<a>", "cleanup"),
            line("4Q9BCDFGHJKLM: from=<a@b>, size=1, nrcpt=9999999 (queue active)", "qmgr"),
            line("4Q9BCDFGHJKLM: to=<\x1b@example.com>, relay=a[192.0.2.1]:25, delay=1, status=sent (x)", "smtp"),
        ]
        answer = replay([*hostile, *sent("4Q2BCDFGHJKLM", ALICE)])
        assert answer.status == 0
        assert all(one.isprintable() for one in answer.out.splitlines())


def test_the_state_of_the_settings_is_not_touched(replay, tmp_path):
    replay(sent("4Q1BCDFGHJKLM", ALICE))
    assert not Path(tmp_path / "state.db").exists()


class TestBounds:
    """However many messages are open, and however long a line is, a replay stays small and quick."""

    def test_the_oldest_are_counted_and_forgotten(self):
        counted, left = [], []
        messages = Messages(
            lambda recipient: recipient.endswith("@example.org"),
            counted=counted.append,
            left=lambda *found: left.append(found),
            most_open=10,
        )
        times = LogTimes(0.0, lambda _minute: 0.0)
        for number in range(100):
            for text in sent(f"4Q1BCDFGHJ{number:03}", ALICE)[:3]:
                messages.add(read_mail_line(text, times))
        assert (messages.forgotten, len(counted), left) == (90, 90, [])
        messages.end()
        assert len(counted) == 100
        assert all(mail.is_counted and mail.further_recipients == 1 for mail in counted)

    @pytest.mark.parametrize("tag", ["smtpd", "pickup", "cleanup", "qmgr", "smtp/smtp"])
    @pytest.mark.parametrize("piece", ["<", '"', '\\"', ", a=b", "[1]:", "4Q1BCDFGHJKLM: ", "to=<a>, relay="])
    def test_any_line_is_read_or_not(self, tag, piece):
        times = LogTimes(0.0, lambda _minute: 0.0)
        for start in (
            "",
            "4Q1BCDFGHJKLM: ",
            "4Q1BCDFGHJKLM: from=<",
            "4Q1BCDFGHJKLM: client=a[1], ",
            "4Q1BCDFGHJKLM: to=<",
        ):
            found = read_mail_line(line(start + piece * (16_000 // len(piece)), tag), times)
            assert found is None or found.event.queue_id == "4Q1BCDFGHJKLM"
