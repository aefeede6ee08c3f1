"""The signed messages printed in RFC 6376 and RFC 8463 verify."""

import pytest
from dkim_mail import KeyServer, parts, results_of

from deliverypools.core.authentication import Result

LETTER = b"""From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
"""

# RFC 6376 appendices A.2 and C.
RFC6376 = (
    b"""DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
"""
    + LETTER
)
RFC6376_KEY = b"""v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQ
KBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYt
IxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v
/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhi
tdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"""

# RFC 8463 appendix A.
RFC8463 = (
    b"""DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
"""
    + LETTER
)
RFC8463_KEYS = {
    "brisbane._domainkey.football.example.com": b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": b"""v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR
iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC
DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3
Ip3G+2kryOTIKT+l/K4w3QIDAQAB""",
}


def results(message, keys):
    found = results_of(*parts(message.replace(b"\n", b"\r\n")), KeyServer(keys))
    return [(each.domain, each.result) for each in found]


def test_rfc_6376():
    assert results(RFC6376, {"brisbane._domainkey.example.com": RFC6376_KEY}) == [("example.com", Result.PASS)]


def test_rfc_6376_as_it_is_printed():
    """The RFC prints two spaces after "game."; what it signs has one, as its errata say. With `simple` that counts."""
    printed = RFC6376.replace(b"game. Are", b"game.  Are")
    assert results(printed, {"brisbane._domainkey.example.com": RFC6376_KEY}) == [("example.com", Result.FAIL)]


@pytest.mark.parametrize("space", [b" ", b"  "])
def test_rfc_8463(space):
    """Both signatures of one message, Ed25519 and RSA; with `relaxed` the spaces do not count."""
    message = RFC8463.replace(b"game. Are", b"game." + space + b"Are")
    assert results(message, RFC8463_KEYS) == [("football.example.com", Result.PASS)] * 2
