"""State dies with the message: several messages, RSET and refusals on one connection."""

from __future__ import annotations

from mailing import ALICE, HIGH_RISK, NORMAL, arrived, fresh, mail

from deliverypools.lab.lab import Lab, transaction


def test_second_message_on_a_connection_inherits_nothing_from_the_first(lab: Lab):
    spam, ham = fresh(), fresh()
    with lab.session(port=587, auth=ALICE) as smtp:
        assert transaction(smtp, ALICE[0], [spam], mail(X_Spam_Flag="YES")).accepted
        assert transaction(smtp, ALICE[0], [ham], mail()).accepted
    assert arrived(lab, spam).source_address in HIGH_RISK
    assert arrived(lab, ham).source_address in NORMAL


def test_rset_in_the_middle_leaves_nothing_behind(lab: Lab):
    abandoned, sent = fresh(), fresh()
    with lab.session(port=587, auth=ALICE) as smtp:
        smtp.mail("")
        smtp.rcpt(abandoned)
        smtp.rset()
        assert transaction(smtp, ALICE[0], [sent], mail()).accepted
    message = arrived(lab, sent)
    assert message.source_address in NORMAL
    assert message.recipients == (sent,)


def test_refused_recipient_is_no_recipient(lab: Lab):
    sent = fresh()
    with lab.session(port=587, auth=ALICE) as smtp:
        smtp.mail(ALICE[0])
        assert smtp.rcpt("no-such-user@example.org")[0] == 550
        assert smtp.rcpt(sent)[0] == 250
        assert smtp.data(mail())[0] == 250
    assert arrived(lab, sent).source_address in NORMAL


def test_messages_of_two_connections_do_not_mix(lab: Lab):
    spam, ham = fresh(), fresh()
    with lab.session(port=587, auth=ALICE) as one, lab.session(port=587, auth=ALICE) as two:
        one.mail(ALICE[0])
        two.mail(ALICE[0])
        one.rcpt(spam)
        two.rcpt(ham)
        assert two.data(mail())[0] == 250
        assert one.data(mail(X_Spam_Flag="YES"))[0] == 250
    assert arrived(lab, spam).source_address in HIGH_RISK
    assert arrived(lab, ham).source_address in NORMAL
