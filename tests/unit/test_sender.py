"""The envelope sender, as far as a header tells it."""

import pytest

from deliverypools.core.headers import Headers
from deliverypools.core.sender import header_sender

FROM = ("From", "Alice <alice@example.org>")


@pytest.mark.parametrize(
    ("fields", "sender"),
    [
        ((("Return-Path", "<bounces@example.net>"), FROM), "bounces@example.net"),
        ((("Return-Path", "<>"), FROM), ""),
        ((("Return-Path", "bounces@example.net"), FROM), "bounces@example.net"),
        ((("Return-Path", ""), FROM), ""),
        ((("Return-Path", "<one@example.net>"), ("Return-Path", "<two@example.net>")), "one@example.net"),
        ((FROM,), "alice@example.org"),
        ((("From", "alice@example.org (Alice)"),), "alice@example.org"),
        ((("From", "Alice\n\t<alice@example.org>"),), "alice@example.org"),
        ((("From", '"Eve <alice@example.org>" <eve@example.net>'),), "eve@example.net"),
        ((("From", "(" * 3000 + "alice@example.org"),), None),
        ((("From", "undisclosed"),), None),
        ((("From", ""),), None),
        ((("From", "<>"),), None),
        ((("Sender", "alice@example.org"),), None),
        ((), None),
    ],
)
def test_header_sender(fields, sender):
    assert header_sender(Headers.of(fields)) == sender
