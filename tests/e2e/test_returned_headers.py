"""A notice that returns the header only, to a server without 8BITMIME: Postfix makes it quoted-printable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mailing import arrived, fresh, mail

from deliverypools.lab import receiver
from deliverypools.lab.lab import TRUSTED_CLIENT, Lab
from deliverypools.lab.receiver import REFUSE

WITHOUT_8BITMIME = tuple(one for one in receiver.EXTENSIONS if one not in ("8BITMIME", "SMTPUTF8"))
EIGHT_BIT = {
    "MIME_Version": "1.0",
    "Content_Type": "text/plain; charset=utf-8",
    "Content_Transfer_Encoding": "8bit",
}


@pytest.mark.parametrize("profile", ["hop", "express"])
def test_nothing_of_ours_is_left_in_it(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, profile: str):
    monkeypatch.setattr(receiver, "EXTENSIONS", WITHOUT_8BITMIME)
    lab = make_lab(profile=profile)
    refused, writer = fresh("example.net"), fresh()
    lab.receiver.answer(refused, REFUSE)
    data = mail(sender=writer, body="grüße\n", **EIGHT_BIT)
    with lab.session(client_address=TRUSTED_CLIENT) as smtp:
        smtp.sendmail(writer, [refused], data, mail_options=["BODY=8BITMIME", "RET=HDRS"])
    notice = arrived(lab, writer).data
    assert b"text/rfc822-headers" in notice
    assert b"quoted-printable" in notice
    returned = notice.partition(b"text/rfc822-headers")[2].partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0]
    fields = [line for line in returned.splitlines() if line and not line.startswith((b" ", b"\t"))]
    assert all(b": " in line or line.endswith(b":") for line in fields), fields
    assert b"X-Delivery-Pool" not in notice
    assert b".dp." not in notice
