"""Whether a notice of this Postfix would be backscatter."""

from dataclasses import replace

import pytest

from deliverypools.core.dsn.dubious import why_backscatter
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, Origin
from deliverypools.core.settings import built_in_defaults
from deliverypools.core.ticket import Binding, Ticket

SETTINGS = built_in_defaults().model_copy(update={"accepted_domains": ("example.org",)})
SENDER = "erin@forged.example"
FORGED = Origin(
    ingress=Ingress.OUTSIDE,
    envelope_sender=SENDER,
    client_address="203.0.113.9",
    authenticated=Finding(Answer.NO, "nothing passed"),
    envelope_authenticated=Finding(Answer.NO, "nothing passed"),
    authentication_results="spf=fail dkim=none dmarc=none",
)


def why(
    origin: Origin | None,
    *recipients: str,
    requested: frozenset[str] = frozenset(),
    authors: tuple[str, ...] = ("forged.example",),
) -> str:
    ticket = Ticket(
        ticket_id="t",
        made_at=0.0,
        first_queue_id="Q",
        origin=origin,
        binding=Binding("", "", ""),
        recipient_count=1,
        requested_notices=requested,
    )
    return why_backscatter(ticket, recipients or (SENDER,), authors, SETTINGS)


@pytest.mark.parametrize(
    "results",
    [
        "spf=fail dkim=none dmarc=none",
        "spf=softfail dkim=none dmarc=none",
        "spf=none dkim=fail dmarc=fail",
        "spf=neutral dkim=none dmarc=fail arc=none",
    ],
)
def test_sender_who_failed_is_forged(results):
    assert "failed authentication" in why(replace(FORGED, authentication_results=results))


@pytest.mark.parametrize(
    "results",
    [
        "",
        "spf=none dkim=none dmarc=none",
        "spf=neutral dkim=none dmarc=none",
        "spf=permerror dkim=fail dmarc=permerror",
        "spf=temperror dkim=none dmarc=none",
    ],
)
def test_sender_who_proves_nothing_has_failed_nothing(results):
    assert why(replace(FORGED, authentication_results=results)) == ""


@pytest.mark.parametrize("ingress", [Ingress.SUBMISSION, Ingress.TRUSTED, Ingress.LOCAL, Ingress.BOUNCE])
def test_own_mail_is_never_dubious(ingress):
    assert why(replace(FORGED, ingress=ingress, spam="X-Spam-Flag: YES")) == ""


@pytest.mark.parametrize("answer", [Answer.YES, Answer.UNKNOWN])
@pytest.mark.parametrize("spam", ["", "X-Spam-Flag: YES"])
def test_authenticated_or_unknown_sender_gets_his_notice(answer, spam):
    assert why(replace(FORGED, envelope_authenticated=Finding(answer), spam=spam)) == ""


@pytest.mark.parametrize("finding", [NOT_ASKED, Finding(Answer.NO)])
def test_spam_of_nobody_in_particular_is_dubious(finding):
    origin = replace(FORGED, authentication_results="", envelope_authenticated=finding, spam="X-Spam-Flag: YES")
    assert "spam" in why(origin)


def test_failure_that_was_not_examined_is_none():
    assert why(replace(FORGED, envelope_authenticated=NOT_ASKED)) == ""


@pytest.mark.parametrize("requested", ["FAILURE", "DELAY", "SUCCESS"])
def test_notice_that_was_asked_for_is_sent(requested):
    assert why(FORGED, requested=frozenset({requested})) == ""


@pytest.mark.parametrize(
    "recipients", [("alice@example.org",), ("owner@lists.example",), (SENDER, "postmaster@example.org"), ("",)]
)
def test_notice_to_somebody_else_is_sent(recipients):
    assert why(FORGED, *recipients) == ""


def test_spelling_of_the_sender_does_not_matter():
    assert why(FORGED, "erin@FORGED.example.")


def test_own_user_gets_the_notice():
    assert why(replace(FORGED, envelope_sender="bob@example.org"), "bob@example.org") == ""


def test_unknown_origin_is_not_dubious():
    assert why(None) == ""


def test_null_sender_is_not_dubious():
    assert why(replace(FORGED, envelope_sender=""), "") == ""


@pytest.mark.parametrize("authors", [(), ("author.example",), ("author.example", "other.example")])
def test_dmarc_of_another_domain_says_nothing_of_the_envelope_sender(authors):
    origin = replace(FORGED, authentication_results="spf=none dkim=none dmarc=fail")
    assert why(origin, authors=authors) == ""
    assert "spf=fail" in why(FORGED, authors=authors)


@pytest.mark.parametrize("author", ["example", "forged.example", "mail.forged.example"])
def test_dmarc_of_a_domain_above_or_below_counts(author):
    origin = replace(FORGED, authentication_results="spf=none dkim=none dmarc=fail")
    assert why(origin, authors=("author.net", author)) == "its sender failed authentication: dmarc=fail"


def test_who_has_signed_has_not_failed_though_spf_did():
    assert why(replace(FORGED, is_envelope_backed=True)) == ""
    assert why(replace(FORGED, is_envelope_backed=True, spam="X-Spam-Flag: YES")) == ""


@pytest.mark.parametrize(
    "sender",
    [
        '"erin"@forged.example',
        "\\erin@forged.example",
        "erin%forged.example",
        "forged.example!erin",
        "erin%forged.example@mx.example.org",
        "erin%forged.example@example.org",
        "forged.example!erin@mx.example.org",
        '"forged.example!erin"@mx.example.org',
        "erin@forged.example@mx.example.org",
        '"erin@forged.example"@mx.example.org',
    ],
)
def test_odd_spelling_of_a_forged_sender(sender):
    assert why(replace(FORGED, envelope_sender=sender))


@pytest.mark.parametrize(
    "sender", ['"erin"@other.example', "erin%other.example", "other.example!erin", '""@x', '"', "%", "!", "@"]
)
def test_odd_sender_that_is_somebody_else(sender):
    assert why(replace(FORGED, envelope_sender=sender)) == ""


@pytest.mark.parametrize("sender", ["erin%box@list.example", "host!erin@list.example"])
def test_odd_sender_elsewhere_who_publishes_nothing_has_failed_nothing(sender):
    origin = replace(FORGED, envelope_sender=sender, authentication_results="spf=none dkim=none dmarc=none")
    assert why(origin, sender) == ""


@pytest.mark.parametrize(
    "sender", ["erin%forged.example", "erin%forged.example@localhost", "erin%forged.example@[192.0.2.1]"]
)
def test_route_through_us_is_forged_whatever_was_examined(sender):
    origin = replace(FORGED, envelope_sender=sender, authentication_results="", envelope_authenticated=NOT_ASKED)
    assert "route" in why(origin)


def test_route_that_was_backed_on_arrival_is_believed_though_a_filter_changed_the_message():
    origin = replace(FORGED, envelope_sender="erin%forged.example@mx.example.org", is_envelope_backed=True)
    assert why(origin) == ""


def test_route_of_an_authenticated_sender_is_believed():
    origin = replace(
        FORGED, envelope_sender="erin%forged.example@mx.example", envelope_authenticated=Finding(Answer.YES)
    )
    assert why(origin) == ""
