"""The command line: `classify --scan`, and what `check` says of scanners."""

import json
import time
from pathlib import Path

import pytest
from command_line import MAIL, SETTINGS

from deliverypools.adapters.scanning.clamd_client import ClamdClient
from deliverypools.adapters.scanning.rspamd_client import RspamdClient
from deliverypools.adapters.scanning.spamd_client import SpamdClient
from deliverypools.adapters.scanning.unavailable import ScannerUnavailable
from deliverypools.core.scanning.answers import ScanEnvelope, Scanner, ScannerAnswer, ScanVerdict

ALL = 'rspamd = "http://user:secret@127.0.0.1:11333"\nspamd = "127.0.0.1:783"\nclamd = "unix:/run/clamav/clamd.ctl"\n'
WITHOUT_SCANNERS = ["sender_domain_without_mx_or_a"]
SPAM = {"score": 7.25, "verdict": ScanVerdict.SPAM, "symbols": ("BAYES_SPAM 5.1", "SUBJ_ALL_CAPS 2.1")}
ANSWERS_ONLY = {"verdict": ScanVerdict.HAM}


@pytest.fixture
def scanners(monkeypatch):
    """Answer in the place of scanners; return what they are to say, and what they were asked."""
    says, asked = dict.fromkeys(Scanner, ANSWERS_ONLY), []

    def answer_of(client, deadline, *told):
        asked.append((client.scanner, deadline - time.monotonic(), *told))
        if isinstance(says[client.scanner], str):
            raise ScannerUnavailable(says[client.scanner])
        return says[client.scanner]

    def ask(client, content, envelope, deadline):
        return ScannerAnswer(scanner=client.scanner, **answer_of(client, deadline, bytes(content), envelope))

    for kind in (RspamdClient, SpamdClient, ClamdClient):
        monkeypatch.setattr(kind, "ask", ask)
        monkeypatch.setattr(kind, "close", lambda client: asked.append((client.scanner, "closed")))
    return says, asked


@pytest.fixture
def configure(config, tmp_path):
    def configure(more, before=""):
        text = f"{before}{SETTINGS.format(folder=tmp_path)}[spam]\n{more}"
        Path(config).write_text(text, encoding="utf-8")

    return configure


@pytest.fixture
def classified(run, config, mail):
    def classified(*options):
        return run("classify", "--config", config, "--json", *options, mail).json()[0]

    return classified


def questions(asked):
    return [one for one in asked if len(one) == 4]


class TestScanOff:
    @pytest.mark.parametrize(
        ("more", "not_asked"),
        [
            ("", WITHOUT_SCANNERS),
            ('rspamd = "http://127.0.0.1:11333"', [*WITHOUT_SCANNERS, "spam"]),
            ('clamd = "127.0.0.1:3310"', [*WITHOUT_SCANNERS, "malware"]),
            (ALL, [*WITHOUT_SCANNERS, "malware", "spam"]),
            (ALL + 'scan = "forwarded"', WITHOUT_SCANNERS),
            (ALL + 'skip = [{sender = "alice@example.org"}]', WITHOUT_SCANNERS),
        ],
        ids=["no scanner", "rspamd", "clamd", "all", "not in scope", "skipped"],
    )
    def test_rules_whose_scanners_were_not_asked_are_named(self, *, classified, configure, scanners, more, not_asked):
        configure(more)
        found = classified()
        assert (found["pool"], found["rule"], sorted(found["not_asked"])) == ("normal", "default", sorted(not_asked))
        assert scanners[1] == []

    def test_the_size_is_known(self, classified, configure, scanners, mail):
        configure(ALL + 'size_limit = 1000\noversized = "high-risk"\n')
        padding = b"x" * (1000 - len(MAIL.replace(b"\r\n", b"\n")))
        Path(mail).write_bytes(MAIL + padding)
        assert classified()["rule"] == "default"
        Path(mail).write_bytes(MAIL + padding + b"x")
        assert classified()["rule"] == "not_scanned_for_malware"

    def test_a_header_that_says_spam_needs_no_scanner(self, classified, configure, scanners, mail):
        configure(ALL)
        Path(mail).write_bytes(b"X-Spam: Yes\r\n" + MAIL)
        found = classified()
        assert (found["rule"], set(found["not_asked"])) == ("spam", {*WITHOUT_SCANNERS, "malware"})

    @pytest.mark.parametrize(
        ("more", "words"), [(ALL, "malware, spam"), (ALL + 'skip = [{sender = "alice@example.org"}]', "")]
    )
    def test_people_are_told_so_too(self, *, run, config, mail, configure, scanners, more, words):
        configure(more)
        out = run("classify", "--config", config, mail).out
        assert out.count("; not asked: ") == (2 if words else 1)
        assert (f"; not asked: {words} (--scan live); not asked: " in out) is bool(words)


class TestScanLive:
    @pytest.mark.parametrize(
        ("scanner", "answer", "expected"),
        [
            (
                Scanner.RSPAMD,
                SPAM | {"action": "add header"},
                ("high-risk", "spam", "rspamd: add header, score 7.2 (BAYES_SPAM 5.1, SUBJ_ALL_CAPS 2.1)"),
            ),
            (Scanner.SPAMD, SPAM, ("high-risk", "spam", "spamd: found, score 7.2 (BAYES_SPAM 5.1, SUBJ_ALL_CAPS 2.1)")),
            (
                Scanner.CLAMD,
                {"verdict": ScanVerdict.SPAM, "symbols": ("Eicar",)},
                ("high-risk", "malware", "clamd: found (Eicar)"),
            ),
        ],
        ids=["rspamd", "spamd", "clamd"],
    )
    def test_what_a_scanner_finds_decides(self, *, classified, configure, scanners, scanner, answer, expected):
        configure(ALL)
        scanners[0][scanner] = answer
        found = classified("--scan", "live")
        assert (found["pool"], found["rule"], found["reasons"][0]) == expected
        assert {"malware", "spam"}.isdisjoint(found["not_asked"])

    @pytest.mark.parametrize(
        ("malware", "words", "expected"),
        [
            ("high-risk", "high-risk", ("high-risk", False, False)),
            ("hold", "high-risk, on hold", ("high-risk", True, False)),
            ("reject", "refused", (None, False, True)),
        ],
    )
    def test_what_does_not_leave(self, *, run, config, mail, configure, scanners, malware, words, expected):
        configure(f'clamd = "127.0.0.1:3310"\nmalware = "{malware}"\n')
        scanners[0][Scanner.CLAMD] = {"verdict": ScanVerdict.SPAM, "symbols": ("Eicar",)}
        command = ("classify", "--config", config, "--scan", "live", mail)
        assert run(*command).out.startswith(f"{mail}: {words} (malware: clamd: found (Eicar))")
        found = run(*command, "--json").json()[0]
        assert (found["pool"], found["hold"], found["refused"]) == expected

    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            (b"GTUBE\nworld\n", b"\nGTUBE\nworld\n"),
            (
                b"From: a@example.org\r\nSubject: x\r\nGTUBE\r\nX: y\r\n\r\nhi\r\n",
                b"From: a@example.org\nSubject: x\n\nGTUBE\nX: y\n\nhi\n",
            ),
            (b" folded\nX: y\n", b"\n folded\nX: y\n"),
            (b"X: a\n folded\n: none\n", b"X: a\n folded\n\n: none\n"),
            (b"X : a\n\n", b"X: a\n\n"),
            (b"X Y: a\n", b"\nX Y: a\n"),
            (b">From a@example.org Tue\nX: a\n\nb", b"X: a\n\nb"),
            (b"X: a\n" + b"y" * 2_000_000, b"X: a\n\n" + b"y" * 2_000_000),
            (b"X: a\n\n\n\xff\r", b"X: a\n\n\n\xff\r"),
            (b"X: a", b"X: a\n\n"),
        ],
        ids=["no header", "broken", "folded", "no name", "blank", "words", "mbox", "endless", "body", "no end"],
    )
    def test_they_see_all_of_the_file(self, *, classified, configure, scanners, mail, raw, shown):
        """As the milter shows it to them: what is no field begins the body for Postfix."""
        configure('spamd = "127.0.0.1:783"\nspamd_size_limit = "9MB"\n')
        Path(mail).write_bytes(raw)
        classified("--scan", "live", "--sender", "alice@example.org")
        ((_, _, content, _),) = questions(scanners[1])
        assert content == shown

    def test_what_all_of_them_said_is_among_the_reasons(self, classified, configure, scanners):
        configure(ALL)
        found = classified("--scan", "live")
        assert (found["pool"], found["rule"]) == ("normal", "default")
        assert set(found["reasons"][1:]) == {"rspamd: clean", "spamd: clean", "clamd: clean"}

    def test_only_the_scanners_of_the_settings_are_asked(self, classified, configure, scanners):
        configure('clamd = "127.0.0.1:3310"')
        classified("--scan", "live")
        assert [one[0] for one in questions(scanners[1])] == [Scanner.CLAMD]
        assert (Scanner.CLAMD, "closed") in scanners[1]

    def test_what_they_are_told(self, run, config, configure, scanners, mail):
        configure('spamd = "127.0.0.1:783"')
        options = ("--sasl-username", "Alice", "--client-address", "198.51.100.7", "--helo", "client.example.net")
        recipients = ("--recipient", "bob@example.net", "--recipient", "carol@example.net")
        run("classify", "--config", config, "--scan", "live", *options, *recipients, mail)
        ((_, _, content, envelope),) = questions(scanners[1])
        assert content == MAIL.replace(b"\r\n", b"\n")
        assert envelope.envelope_sender == "alice@example.org"
        assert envelope.recipients == ("bob@example.net", "carol@example.net")
        assert (envelope.sasl_username, envelope.client_address, envelope.helo_name) == (
            *("alice", "198.51.100.7"),
            "client.example.net",
        )

    @pytest.mark.parametrize(("profile", "seconds"), [("hop", 20.0), ("express", 3.0)])
    def test_how_long_they_have(self, *, classified, configure, scanners, profile, seconds):
        limits = "timeout_seconds = 20.0\nfirst_pass_timeout_seconds = 3.0\n"
        configure('spamd = "127.0.0.1:783"\n' + limits, before=f'profile = "{profile}"\n')
        classified("--scan", "live")
        (left,) = [one[1] for one in questions(scanners[1])]
        assert 0 < left <= seconds

    @pytest.mark.parametrize(
        ("unknown_verdict", "expected"), [("wait", (None, "undecided")), ("high-risk", ("high-risk", "unscanned"))]
    )
    def test_a_scanner_that_does_not_answer(self, *, classified, configure, scanners, unknown_verdict, expected):
        configure(f'{ALL}unknown_verdict = "{unknown_verdict}"\n')
        scanners[0][Scanner.RSPAMD] = "connection refused"
        found = classified("--scan", "live")
        assert (found["pool"], found["rule"]) == expected
        assert any("rspamd: no verdict" in reason and "connection refused" in reason for reason in found["reasons"])

    @pytest.mark.parametrize(
        "options", [("--sender", "<>"), ("--sender", "eve@example.net", "--ingress", "outside")], ids=["null", "scope"]
    )
    def test_what_needs_no_scanner_is_not_handed_over(self, *, classified, configure, scanners, options):
        configure(ALL + 'scan = "submitted"\n')
        classified("--scan", "live", *options)
        assert questions(scanners[1]) == []

    def test_what_is_larger_than_what_is_scanned(self, classified, configure, scanners, mail):
        configure(ALL + "size_limit = 1000\n")
        Path(mail).write_bytes(MAIL + b"x" * 1000)
        assert classified("--scan", "live")["rule"] == "default"
        assert questions(scanners[1]) == []

    def test_a_message_that_is_large(self, classified, configure, scanners, mail):
        """It is handed over as a file that is mapped."""
        configure('clamd = "127.0.0.1:3310"')
        Path(mail).write_bytes(MAIL + b"line\r\n" * 100_000)
        classified("--scan", "live")
        assert [one[2] for one in questions(scanners[1])] == [MAIL.replace(b"\r\n", b"\n") + b"line\n" * 100_000]

    def test_a_batch(self, run, config, configure, scanners, tmp_path):
        configure('spamd = "127.0.0.1:783"')
        for number in range(20):
            (tmp_path / f"{number}.eml").write_bytes(MAIL.replace(b"hello", f"hello {number}".encode()))
        lines = b"\n".join(json.dumps({"file": f"{tmp_path}/{number}.eml"}).encode() for number in range(20))
        answers = run("classify", "--config", config, "--scan", "live", "--batch", "-", stdin=lines).json()
        assert [one["reasons"][-1] for one in answers] == ["spamd: clean"] * 20
        assert len(questions(scanners[1])) == 20

    def test_nothing_is_written(self, classified, configure, scanners, tmp_path, monkeypatch):
        configure(ALL)
        monkeypatch.chdir(tmp_path)
        before = sorted(tmp_path.iterdir())
        classified("--scan", "live")
        assert sorted(tmp_path.iterdir()) == before

    def test_the_settings_name_no_scanner(self, run, config, mail, scanners):
        answer = run("classify", "--config", config, "--scan", "live", "--json", mail)
        assert (answer.status, answer.json()[0]["rule"]) == (0, "default")
        assert answer.err.startswith("--scan live: the settings name no scanner")


class TestCheck:
    @pytest.fixture
    def check(self, run, config):
        run("keys", "rotate", "--config", config)
        return lambda: run("check", "--no-postfix", "--config", config)

    def test_scanners_that_answer(self, check, configure, scanners):
        configure(ALL)
        answer = check()
        assert (answer.status, answer.err) == (0, "")
        asked = questions(scanners[1])
        assert sorted(one[0] for one in asked) == sorted(Scanner)
        assert {one[2] for one in asked} == {asked[0][2]}
        assert asked[0][2].startswith(b"From: <postmaster@example.org>\nTo: <postmaster@example.org>\n")
        assert {one[3] for one in asked} == {
            ScanEnvelope(
                envelope_sender="postmaster@example.org",
                recipients=("postmaster@example.org",),
                client_address="127.0.0.1",
            )
        }
        assert all((scanner, "closed") in scanners[1] for scanner in Scanner)

    def test_no_scanner_is_named(self, check, scanners):
        assert (check().status, scanners[1]) == (0, [])

    @pytest.mark.parametrize(
        ("scanner", "where", "service"),
        [
            (Scanner.SPAMD, "127.0.0.1:783", "spamd"),
            (Scanner.CLAMD, "unix:/run/clamav/clamd.ctl", "clamav-daemon"),
        ],
    )
    def test_one_that_does_not_is_a_warning(self, *, check, configure, scanners, scanner, where, service):
        configure(ALL)
        scanners[0][scanner] = "connection refused"
        answer = check()
        assert answer.status == 0
        assert answer.err == (
            f"warning: spam.{scanner}: no verdict from {where}: connection refused."
            " Mail that it does not answer about waits (451) and is tried again;"
            " after 4h it leaves by high-risk (milter.undecided_after)."
            f" See whether it runs (systemctl status {service}), and whether the user of the daemons may reach it;"
            f" else correct spam.{scanner}\n"
        )
        assert answer.out.startswith("settings and files are in order")

    def test_one_that_answers_and_gives_no_verdict(self, check, configure, scanners):
        configure(ALL)
        scanners[0][Scanner.RSPAMD] = {"verdict": ScanVerdict.UNKNOWN, "problem": "HTTP 404"}
        (line,) = check().err.splitlines()
        assert "spam.rspamd: no verdict from http://127.0.0.1:11333/***: HTTP 404. Mail that it does not" in line
        assert line.endswith(
            "correct spam.rspamd (11333 is its normal worker; 11332, a milter, and 11334 scan nothing for us)"
        )

    def test_that_it_calls_the_message_spam_is_a_verdict(self, check, configure, scanners):
        configure(ALL)
        scanners[0][Scanner.SPAMD] = SPAM
        assert check().err == ""

    def test_what_it_means_where_mail_does_not_wait(self, check, configure, scanners):
        configure(ALL + 'unknown_verdict = "high-risk"\n')
        scanners[0][Scanner.CLAMD] = "connection refused"
        assert " Mail that it does not answer about leaves by high-risk (spam.unknown_verdict" in check().err

    def test_a_password_is_not_repeated(self, check, configure, scanners):
        configure(ALL)
        scanners[0][Scanner.RSPAMD] = "connection refused"
        answer = check()
        assert "no verdict from http://" in answer.err
        assert "secret" not in answer.err

    def test_all_of_them_are_asked_each_for_a_short_time(self, check, configure, scanners):
        configure(ALL)
        scanners[0].update(dict.fromkeys(Scanner, "no answer in 5.0 s"))
        lines = check().err.splitlines()
        assert [line.split(":")[1].strip() for line in lines] == ["spam.rspamd", "spam.spamd", "spam.clamd"]
        assert all(0 < one[1] <= 10 for one in questions(scanners[1]))
