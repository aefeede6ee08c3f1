"""`bounces.drop_backscatter` behind a content filter that changes From, and says what is spam."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from mailing import fresh, mail, running
from test_drop_backscatter import SITE, dropped_for, sent_to

from deliverypools.lab.lab import Lab
from deliverypools.lab.signing import signed

MASTER = """\
scan unix - - y - - smtp -o smtp_bind_address=127.0.0.1 -o smtp_header_checks=regexp:$config_directory/filter
127.0.0.1:10026 inet n - y - - smtpd -o content_filter= -o milter_macro_daemon_name=REINJECT
  -o smtpd_sender_restrictions= -o smtpd_end_of_data_restrictions=
"""
FILTER = "/^From: (.*)/ REPLACE From: [EXTERNAL] $1\n/^Subject: .*spam/ PREPEND X-Spam-Flag: YES\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    site = dataclasses.replace(
        SITE,
        main={**SITE.main, "content_filter": "scan:[127.0.0.1]:10026"},
        master=MASTER,
        files={**SITE.files, "filter": FILTER},
    )
    with running(site=site, settings={"bounces": {"drop_backscatter": True}}) as lab:
        yield lab


@pytest.mark.parametrize("domain", ["spf.example", "signed.example", "broken.example"])
@pytest.mark.parametrize("subject", ["hello", "spam"])
def test_notice_to_a_sender_who_was_authenticated_on_arrival_is_sent(lab: Lab, domain: str, subject: str):
    sender = fresh(domain)
    data = mail(sender, Subject=subject)
    data = signed(data, domain) if domain == "signed.example" else data
    assert lab.send(sender, "command@example.org", data).accepted
    sent_to(lab, sender)


@pytest.mark.parametrize(
    ("domain", "subject", "reason"),
    [("strict.example", "hello", "spf=fail"), ("strict.example", "spam", "spam"), ("example.com", "spam", "spam")],
)
def test_backscatter_is_dropped(lab: Lab, domain: str, subject: str, reason: str):
    sender = fresh(domain)
    assert lab.send(sender, "command@example.org", mail(sender, Subject=subject)).accepted
    assert reason in dropped_for(lab, sender).reason
