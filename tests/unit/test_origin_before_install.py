"""Mail of before the installation: what its header shows of the way it came in."""

import pytest

from deliverypools.core.facts import Answer, Ingress
from deliverypools.core.headers import Headers
from deliverypools.core.pre_install import origin_before_install
from deliverypools.core.settings import Settings

HOST = "mx.example.org"
POOLS = {
    name: {"addresses": [f"192.0.2.{last}"], "helo": f"{name}.example.org"}
    for name, last in (("normal", 10), ("high-risk", 20), ("relay", 30))
}
SITE = Settings.model_validate(
    {"accepted_domains": ["example.org"], "trusted_networks": ["127.0.0.0/8", "192.0.2.64/26"], "pools": POOLS}
)
DATE = "Tue, 21 Nov 2023 11:00:00 +0100 (CET)"


def over_smtp(client, protocol="ESMTP", more="", queue_id="4SZPlw1CyQz3wkL"):
    by = f"\tby {HOST} (Postfix) with {protocol} id {queue_id}\n\tfor <a@example.net>; {DATE}"
    return f"from host ({client})\n{more}{by}"


OUTSIDE = over_smtp("mail.example.com [198.51.100.9]")
LOGIN = over_smtp("unknown [198.51.100.7]", "ESMTPSA", "\t(Authenticated sender: Alice@Example.org)\n")
LOGIN_WITHOUT_NAME = over_smtp("unknown [198.51.100.7]", "ESMTPSA")
TRUSTED = over_smtp("printer.example.org [192.0.2.70]")
LOOPBACK = over_smtp("localhost [127.0.0.1]")
FILTER = over_smtp("localhost [127.0.0.1]", queue_id="4SZPlx1CyQz3wkM")
WEBMAIL = over_smtp("localhost [127.0.0.1]", "ESMTPA", "\t(Authenticated sender: bob@example.org)\n")
BY_USER = f"by {HOST} (Postfix, from userid 1003)\n\tid 4SZPlw1CyQz3wkL; {DATE}"
REQUEUE = f"by {HOST} (Postfix, from userid 102)\n\tid 4SZPlx1CyQz3wkM; {DATE}"
BY_POSTFIX = f"by {HOST} (Postfix)\n\tid 4SZPlx1CyQz3wkM; {DATE}"
ELSEWHERE = over_smtp("unknown [203.0.113.5]", "ESMTPSA").replace(HOST, "mx.example.com")


@pytest.mark.parametrize(
    ("fields", "sender", "ingress", "account", "client"),
    [
        ([OUTSIDE], "eve@example.com", Ingress.OUTSIDE, "", "198.51.100.9"),
        ([OUTSIDE], "alice@example.org", Ingress.OUTSIDE, "", "198.51.100.9"),
        ([OUTSIDE], "", Ingress.OUTSIDE, "", "198.51.100.9"),
        ([LOGIN], "sales@example.org", Ingress.SUBMISSION, "alice@example.org", "198.51.100.7"),
        ([LOGIN_WITHOUT_NAME], "Sales@example.org", Ingress.SUBMISSION, "sales@example.org", "198.51.100.7"),
        ([LOGIN_WITHOUT_NAME], "eve@example.com", Ingress.SUBMISSION, "", "198.51.100.7"),
        ([TRUSTED], "alice@example.org", Ingress.TRUSTED, "alice@example.org", "192.0.2.70"),
        ([TRUSTED], "eve@example.com", Ingress.TRUSTED, "192.0.2.70", "192.0.2.70"),
        ([LOOPBACK], "alice@example.org", Ingress.TRUSTED, "alice@example.org", "127.0.0.1"),
        ([WEBMAIL], "bob@example.org", Ingress.SUBMISSION, "bob@example.org", "127.0.0.1"),
        ([FILTER, OUTSIDE], "eve@example.com", Ingress.OUTSIDE, "", "198.51.100.9"),
        ([FILTER, LOGIN], "alice@example.org", Ingress.SUBMISSION, "alice@example.org", "198.51.100.7"),
        ([FILTER, BY_USER], "alice@example.org", Ingress.LOCAL, "uid:1003", ""),
        ([BY_USER], "alice@example.org", Ingress.LOCAL, "uid:1003", ""),
        ([BY_USER, ELSEWHERE], "alice@example.org", Ingress.LOCAL, "uid:1003", ""),
        ([BY_USER], "", Ingress.LOCAL, "uid:1003", ""),
        ([REQUEUE, BY_USER], "alice@example.org", Ingress.LOCAL, "uid:1003", ""),
        ([REQUEUE, LOGIN], "alice@example.org", Ingress.SUBMISSION, "alice@example.org", "198.51.100.7"),
        ([BY_POSTFIX, OUTSIDE], "eve@example.com", Ingress.OUTSIDE, "", "198.51.100.9"),
        ([BY_POSTFIX], "", Ingress.BOUNCE, "", ""),
        ([], "", Ingress.BOUNCE, "", ""),
        ([], "alice@example.org", Ingress.LOCAL, "uid:unknown", ""),
        ([ELSEWHERE], "alice@example.org", Ingress.LOCAL, "uid:unknown", ""),
    ],
)
def test_the_way_it_came_in(fields, sender, ingress, account, client):
    headers = Headers.of(("Received", field) for field in fields)
    origin = origin_before_install(headers, HOST, sender, SITE)
    assert (origin.ingress, origin.account, origin.client_address) == (ingress, account, client)
    assert origin.envelope_sender == sender


def test_nothing_that_was_not_asked_then_is_held_against_it():
    headers = Headers.of([("Received", OUTSIDE)])
    origin = origin_before_install(headers, HOST, "eve@example.com", SITE)
    assert origin.over_limit.answer is Answer.NO
    assert origin.authenticated.answer is Answer.NOT_ASKED
    assert origin.spam == ""
