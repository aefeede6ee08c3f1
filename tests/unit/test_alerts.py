"""Alerts as they are stored, and as administrators and programs read them, whatever an account is called."""

import json
import shlex
import subprocess
from dataclasses import replace

import pytest

from deliverypools.core.alert_text import (
    Samples,
    body_of,
    commands_for,
    readable,
    samples_of,
    shell_word,
    subject_of,
    webhook_of,
)
from deliverypools.core.alerts import Alert, Event
from deliverypools.core.facts import Ingress
from deliverypools.core.records import DecisionRecord

AT = 1_795_352_709.0  # 2026-11-22 13:05:09 UTC
RESTRICTED = Alert(
    event=Event.ACCOUNT_RESTRICTED,
    account="alice@example.org",
    ingress=Ingress.SUBMISSION,
    limit="recipients_per_day",
    most=100,
    used=90,
    cost=30,
    policy="default",
    action="restrict-until-tomorrow",
    evidence="alice@example.org: 90 recipients in 24 hours and 30 more, the limit of policy default is 100",
    at=AT,
    until=1_795_392_000.0,
    notify=("admin@example.org",),
)
OVER_LIMIT = replace(
    RESTRICTED, event=Event.LIMIT_EXCEEDED, action="high-risk", until=None, policy="", limit="messages_per_minute"
)
TENANT = replace(OVER_LIMIT, limit="external_recipients_per_tenant_per_day", tenant="example.org")
SAMPLES = Samples(("Cheap watches", "Grüße"), ("203.0.113.9", "2001:db8::9"))
HOSTILE = [
    "a; rm -rf /",
    "$(reboot)@example.org",
    "it's`id`",
    "-x",
    "--help",
    "new\nline",
    "\x1b[31mred",
    "right-to-left \N{RIGHT-TO-LEFT OVERRIDE}",
    "caf\udce9@example.org",
    "Grüße@example.org",
    "a b",
    "!history",
    "\\n",
    "*",
    "~root",
]


def record(**changes):
    usual = {
        "queue_id": "Q1",
        "host": "mx",
        "pass_name": "egress",
        "at": AT,
        "ingress": "submission",
        "account": "alice@example.org",
        "pool": "normal",
        "rule": "default",
        "reasons": "",
        "envelope_sender": "alice@example.org",
        "recipients": 1,
        "client_address": "203.0.113.9",
        "subject": "hello",
        "message_id": "<1@example.org>",
    }
    return DecisionRecord(**usual | changes)


class TestStored:
    @pytest.mark.parametrize("alert", [RESTRICTED, OVER_LIMIT, TENANT], ids=["restricted", "over limit", "tenant"])
    def test_round_trip_through_json(self, alert):
        assert Alert.from_dict(json.loads(json.dumps(alert.to_dict()))) == alert

    @pytest.mark.parametrize(
        "change",
        [
            {"event": "another"},
            {"ingress": "carrier-pigeon"},
            {"ingress": []},
            {"at": "noon"},
            {"at": float("nan")},
            {"at": 1e300},
            {"at": -1},
            {"until": "tomorrow"},
            {"most": None},
            {"used": True},
            {"account": 1},
            {"tenant": 1},
            {"notify": 1},
            {"notify": [1]},
            {"added_later": 1},
        ],
        ids=str,
    )
    def test_another_versions_alert_is_a_value_error(self, change):
        with pytest.raises(ValueError, match=r"an alert (of another version|with values of the wrong kind)"):
            Alert.from_dict(RESTRICTED.to_dict() | change)

    @pytest.mark.parametrize("values", [{}, [], [1], "text", None, 1], ids=repr)
    def test_what_is_no_alert_is_a_value_error(self, values):
        with pytest.raises(ValueError, match="an alert of another version"):
            Alert.from_dict(values)

    def test_an_alert_that_was_stored_before_there_were_tenants(self):
        stored = RESTRICTED.to_dict()
        del stored["tenant"]
        assert Alert.from_dict(stored) == RESTRICTED


class TestOnce:
    def test_for_each_event_limit_account_and_day(self):
        changes = [
            {},
            {"event": Event.SUSPICIOUS},
            {"limit": "recipients_per_day"},
            {"policy": "default"},
            {"account": "bob@example.org"},
            {"ingress": Ingress.TRUSTED},
            {"at": AT + 86_400},
        ]
        assert len({replace(OVER_LIMIT, **change).once for change in changes}) == len(changes)
        assert replace(OVER_LIMIT, at=AT + 60, used=1, evidence="", note="").once == OVER_LIMIT.once

    def test_of_a_tenant_whosever_message_it_was(self):
        assert TENANT.once == "limit-exceeded/external_recipients_per_tenant_per_day/tenant:example.org/2026-11-22"
        assert replace(TENANT, account="uid:33", ingress=Ingress.LOCAL).once == TENANT.once
        changes = [{"tenant": "example.net"}, {"at": AT + 86_400}, {"event": Event.SUSPICIOUS}, {"limit": "other"}]
        assert len({TENANT.once, *(replace(TENANT, **change).once for change in changes)}) == 1 + len(changes)

    def test_of_the_trusted_clients_of_a_tenant_apart(self):
        assert replace(TENANT, ingress=Ingress.TRUSTED).once != TENANT.once


class TestMail:
    def test_restricted_account(self):
        assert subject_of(RESTRICTED) == (
            "[delivery-pools] alice@example.org may not send any more, until 2026-11-23 00:00 UTC"
        )
        assert (
            body_of(RESTRICTED, SAMPLES)
            == """\
alice@example.org may not send any more, until 2026-11-23 00:00 UTC.

  evidence: alice@example.org: 90 recipients in 24 hours and 30 more, the limit of policy default is 100
  account:  alice@example.org
  sent:     over SMTP, authenticated (submission)
  limit:    recipients_per_day, at most 100
  used:     90 before this message, 30 by this message
  policy:   default
  action:   restrict-until-tomorrow
  lasts:    until 2026-11-23 00:00 UTC
  time:     2026-11-22T13:05:09Z

Subjects of its latest messages:
  Cheap watches
  Grüße

Client addresses they came from:
  203.0.113.9
  2001:db8::9

To let it send again:
  delivery-pools restricted release alice@example.org

To let it send again, and have its mail that still waits decided again (needs root):
  delivery-pools restricted release alice@example.org --requeue

To send its mail that still waits back through the hop, so that it is decided again (needs root; done
by itself where delivery-pools-requeue.path is enabled):
  delivery-pools restricted requeue alice@example.org

This is told once a day (UTC) for each account and limit.
"""
        )

    def test_account_over_its_limit(self):
        assert subject_of(OVER_LIMIT) == "[delivery-pools] alice@example.org is over its limit (messages_per_minute)"
        assert (
            body_of(OVER_LIMIT, Samples())
            == """\
alice@example.org is over its limit (messages_per_minute).

  evidence: alice@example.org: 90 recipients in 24 hours and 30 more, the limit of policy default is 100
  account:  alice@example.org
  sent:     over SMTP, authenticated (submission)
  limit:    messages_per_minute, at most 100
  used:     90 before this message, 30 by this message
  policy:   (none: a service limit)
  action:   high-risk
  time:     2026-11-22T13:05:09Z

To see what it has sent:
  delivery-pools usage alice@example.org

To forbid it to send:
  delivery-pools restricted add alice@example.org

This is told once a day (UTC) for each account and limit.
"""
        )

    def test_tenant_over_its_limit(self):
        assert subject_of(TENANT) == (
            "[delivery-pools] tenant example.org is over its limit (external_recipients_per_tenant_per_day)"
        )
        assert (
            body_of(TENANT, SAMPLES)
            == """\
tenant example.org is over its limit (external_recipients_per_tenant_per_day).

  evidence: alice@example.org: 90 recipients in 24 hours and 30 more, the limit of policy default is 100
  tenant:   example.org
  account:  alice@example.org (whose message it was)
  sent:     over SMTP, authenticated (submission)
  limit:    external_recipients_per_tenant_per_day, at most 100
  used:     90 before this message, 30 by this message
  policy:   (none: a service limit)
  action:   high-risk
  time:     2026-11-22T13:05:09Z

Subjects of that account's latest messages:
  Cheap watches
  Grüße

Client addresses they came from:
  203.0.113.9
  2001:db8::9

To see what that account has sent:
  delivery-pools usage alice@example.org

This is told once a day (UTC) for each tenant and limit.
"""
        )

    def test_restricted_until_released(self):
        assert subject_of(replace(RESTRICTED, until=None)).endswith("until an administrator releases it")

    def test_signs_of_a_compromised_account(self):
        assert subject_of(replace(OVER_LIMIT, event=Event.SUSPICIOUS)).endswith(
            "alice@example.org looks compromised (messages_per_minute)"
        )

    def test_signs_of_a_compromised_tenant(self):
        assert subject_of(replace(TENANT, event=Event.SUSPICIOUS, limit="verdicts_per_tenant_per_hour")).endswith(
            "] tenant example.org looks compromised (verdicts_per_tenant_per_hour)"
        )

    def test_why_not_more_is_done_is_told(self):
        body = body_of(replace(OVER_LIMIT, note="shadow mode: told, not done"), SAMPLES)
        assert f"{OVER_LIMIT.action} (shadow mode: told, not done)" in body

    @pytest.mark.parametrize("account", [*HOSTILE, "x" * 100_000, "=?utf-8?q?a=0ABcc:_x?="])
    def test_hostile_names_stay_in_their_lines(self, account):
        alert = replace(RESTRICTED, account=account, evidence=account, limit=account, policy=account, action=account)
        samples = samples_of([record(subject=account, client_address=account)], Ingress.SUBMISSION)
        subject, body = subject_of(alert), body_of(alert, samples)
        assert subject.isprintable()
        assert "=?" not in subject
        assert len(subject) < 400
        assert all(line.isprintable() and len(line) < 4200 for line in body.splitlines())
        assert body.count("\n") == body_of(alert, Samples(("one",), ("two",))).count("\n")


class TestCommands:
    @pytest.mark.parametrize("account", HOSTILE)
    def test_a_shell_hands_over_the_very_name(self, account):
        """In bash, as the shell of an administrator; most names do in every shell."""
        for command in commands_for(replace(RESTRICTED, account=account)):
            assert command.line.isprintable()
            script = f'delivery-pools() {{ printf "%s\\0" "$@"; }}\n{command.line}'
            output = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
            arguments = output.split(b"\0")[:-1]
            assert account.encode(errors="surrogateescape") in arguments
            assert arguments[0] == b"restricted"

    def test_plain_names_are_not_quoted(self):
        assert shell_word("uid:33") == "uid:33"
        assert shell_word("2001:db8::1") == "2001:db8::1"

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 1001], ids=["empty", "NUL", "lone", "long"])
    def test_name_that_no_command_line_holds(self, name):
        assert shell_word(name) == "ACCOUNT"

    @pytest.mark.parametrize("name", [name for name in HOSTILE if name.isprintable()])
    def test_printable_names_are_quoted_for_every_shell(self, name):
        assert shlex.split(shell_word(name)) == [name]

    def test_name_that_looks_like_an_option_stands_behind_two_hyphens(self):
        lines = [command.line for command in commands_for(replace(RESTRICTED, account="-x"))]
        assert lines == [
            "delivery-pools restricted release -- '-x'",
            "delivery-pools restricted release --requeue -- '-x'",
            "delivery-pools restricted requeue -- '-x'",
        ]


class TestWebhook:
    def test_everything_is_there(self):
        assert webhook_of(RESTRICTED, SAMPLES) == {
            "id": "account-restricted/default/recipients_per_day/submission:alice@example.org/2026-11-22",
            "text": "alice@example.org may not send any more, until 2026-11-23 00:00 UTC",
            "event": "account-restricted",
            "account": "alice@example.org",
            "tenant": "",
            "ingress": "submission",
            "limit": "recipients_per_day",
            "most": 100,
            "used": 90,
            "cost": 30,
            "policy": "default",
            "action": "restrict-until-tomorrow",
            "note": "",
            "until": "2026-11-23T00:00:00Z",
            "evidence": RESTRICTED.evidence,
            "time": "2026-11-22T13:05:09Z",
            "subjects": ["Cheap watches", "Grüße"],
            "client_addresses": ["203.0.113.9", "2001:db8::9"],
            "commands": {
                "release": "delivery-pools restricted release alice@example.org",
                "release_and_requeue": "delivery-pools restricted release alice@example.org --requeue",
                "requeue": "delivery-pools restricted requeue alice@example.org",
            },
        }

    def test_account_over_its_limit(self):
        content = webhook_of(OVER_LIMIT, Samples())
        assert content["until"] is None
        assert content["commands"] == {
            "usage": "delivery-pools usage alice@example.org",
            "restrict": "delivery-pools restricted add alice@example.org",
        }

    def test_tenant_over_its_limit(self):
        content = webhook_of(TENANT, Samples())
        assert (content["tenant"], content["account"]) == ("example.org", "alice@example.org")
        assert content["text"] == "tenant example.org is over its limit (external_recipients_per_tenant_per_day)"
        assert content["commands"] == {"usage": "delivery-pools usage alice@example.org"}

    @pytest.mark.parametrize("account", [*HOSTILE, "\ud800", "x" * 100_000])
    def test_hostile_names_make_valid_bounded_json(self, account):
        text = json.dumps(webhook_of(replace(RESTRICTED, account=account, evidence=account), Samples()))
        assert len(text) < 20_000
        json.loads(text)["account"].encode()  # no lone surrogate, which other readers refuse


class TestSamples:
    def test_newest_first_each_once(self):
        records = [record(subject=subject) for subject in ("b", "a", "b", "", "c", "d", "e", "f")]
        assert samples_of(records, Ingress.SUBMISSION) == Samples(("b", "a", "c", "d", "e"), ("203.0.113.9",))

    def test_client_addresses_are_bounded(self):
        records = [record(client_address=f"192.0.2.{number}") for number in range(100)]
        assert len(samples_of(records, Ingress.SUBMISSION).client_addresses) == 10

    def test_what_came_in_another_way_is_no_sample(self):
        assert samples_of([record(ingress="trusted")], Ingress.SUBMISSION) == Samples()
        assert samples_of([record(ingress="")], Ingress.SUBMISSION).subjects == ("hello",)

    @pytest.mark.parametrize(
        ("subject", "expected"),
        [
            ("hello", "hello"),
            ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
            ("=?iso-8859-1?b?R3L832U=?= all", "Grüße all"),
            ("=?utf-8?q?a=0D=0ABcc:_x?=", "a??Bcc: x"),
            ("=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=", "= ?utf-8?q?x?="),
            ("=?nonsense?q?x?=", "= ?nonsense?q?x?="),
            ("=?utf-8?b?R3LDvMOfZ?=", "= ?utf-8?b?R3LDvMOfZ?="),
            ("caf\udce9", "caf?"),
            ("", ""),
        ],
    )
    def test_readable(self, subject, expected):
        assert readable(subject) == expected
