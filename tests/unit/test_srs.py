"""SRS: which senders are rewritten and into what, which addresses lead back, and what is refused at RCPT."""

import pytest
import srslib

from deliverypools.core.srs import Expired, NotRewritten, NotSrs, SenderRewriter, SrsError, Tampered, srs_refusal

SECRET = b"the newest secret"
OLD = b"an older secret of ours"
OURS = "srs.example.org"
DAY = 86400
NOW = 20_000 * DAY + 3600
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
DAYS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def rewriter(*secrets, now=NOW, **options):
    return SenderRewriter(secrets or (SECRET, OLD), OURS, lambda: now, **options)


def local_of(address):
    return address.rpartition("@")[0]


def test_a_sender_is_rewritten_to_srs0():
    rewritten = rewriter().forward("alice@example.net")
    assert rewritten == "SRS0=WMMQ=RA=example.net=alice@srs.example.org"
    assert rewriter().reverse(rewritten) == "alice@example.net"


def test_the_clock_that_is_handed_in_is_the_only_one(monkeypatch):
    def forbidden():
        raise AssertionError("asked the machine's clock")

    monkeypatch.setattr(srslib.time, "time", forbidden)
    # Zero is a time, too: srslib takes it for "none given".
    for now in (0, NOW):
        ours = rewriter(now=now)
        assert ours.reverse(ours.forward("alice@example.net")) == "alice@example.net"


@pytest.mark.parametrize(
    ("sender", "rewritten"),
    [
        pytest.param(
            "SRS0=abcd=TT=example.com=bob@fwd.example",
            "SRS1=XXXX=fwd.example==abcd=TT=example.com=bob@srs.example.org",
            id="SRS0",
        ),
        pytest.param(
            "srs0+abcd=TT=example.com=bob@fwd.example",
            "SRS1=XXXX=fwd.example=+abcd=TT=example.com=bob@srs.example.org",
            id="SRS0 with +",
        ),
        pytest.param(
            "SRS1=dcba=first.example==abcd=TT=example.com=bob@fwd.example",
            "SRS1=XXXX=first.example==abcd=TT=example.com=bob@srs.example.org",
            id="SRS1 leaves out the hop between",
        ),
        pytest.param(
            "SRS1-dcba=first.example=-abcd=TT=example.com=bob@fwd.example",
            "SRS1=XXXX=first.example=-abcd=TT=example.com=bob@srs.example.org",
            id="SRS1 with -",
        ),
    ],
)
def test_srs_addresses_of_others_become_srs1(sender, rewritten):
    found = rewriter(longest_local_part=100).forward(sender)
    assert f"{found[:5]}XXXX{found[9:]}" == rewritten
    opaque = rewritten.partition(".example=")[2].rpartition("@")[0]
    first_hop = rewritten.split("=")[2]
    assert rewriter().reverse(found) == f"SRS0{opaque}@{first_hop}"


@pytest.mark.parametrize(
    "sender",
    [
        pytest.param("", id="null sender"),
        pytest.param("<>", id="null sender as SMTP writes it"),
        pytest.param("SRS0=abcd=TT=example.com=bob@srs.example.org", id="SRS0 of ours"),
        pytest.param("srs1+abcd=x.example==abcd=TT=example.com=bob@SRS.Example.ORG", id="SRS1 of ours"),
        pytest.param('"SRS0=abcd=TT=example.com=john doe"@srs.example.org', id="SRS0 of ours, quoted"),
    ],
)
def test_senders_that_stay(sender):
    assert rewriter().forward(sender) == sender


def test_nothing_is_rewritten_twice():
    once = rewriter().forward("alice@example.net")
    assert rewriter().forward(once) == once
    # Days later, when the message is still in the queue, and with a new secret.
    assert rewriter(b"another secret of ours", now=NOW + 3 * DAY).forward(once) == once


@pytest.mark.parametrize(
    ("sender", "rewritten", "reversed_to"),
    [
        pytest.param(
            '"john doe"@example.com', '"SRS0=XXXX=RA=example.com=john doe"', '"john doe"@example.com', id="blank"
        ),
        pytest.param(
            '"john.doe"@example.com', "SRS0=XXXX=RA=example.com=john.doe", "john.doe@example.com", id="needless"
        ),
        pytest.param(r'"a\"b\\c"@x.example', r'"SRS0=XXXX=RA=x.example=a\"b\\c"', r'"a\"b\\c"@x.example', id="quotes"),
        pytest.param("a..b@example.com", '"SRS0=XXXX=RA=example.com=a..b"', '"a..b"@example.com', id="two dots"),
        pytest.param(
            "<@a.example,@b.example:u@c.example>", "SRS0=XXXX=RA=c.example=u", "u@c.example", id="source route"
        ),
        pytest.param("<@[192.0.2.1]:u@c.example>", "SRS0=XXXX=RA=c.example=u", "u@c.example", id="route by address"),
        pytest.param(
            "bob@bücher.example", "SRS0=XXXX=RA=xn--bcher-kva.example=bob", "bob@xn--bcher-kva.example", id="U-label"
        ),
        pytest.param("jörg@example.com", "SRS0=XXXX=RA=example.com=jörg", "jörg@example.com", id="SMTPUTF8"),
        pytest.param("u@[192.0.2.1]", '"SRS0=XXXX=RA=[192.0.2.1]=u"', "u@[192.0.2.1]", id="IPv4"),
        pytest.param("u@[IPv6:2001:db8::1]", '"SRS0=XXXX=RA=[IPv6:2001:db8::1]=u"', "u@[IPv6:2001:db8::1]", id="IPv6"),
        pytest.param("Alice@Example.COM", "SRS0=XXXX=RA=Example.COM=Alice", "Alice@Example.COM", id="case is kept"),
        pytest.param("a=b=c@x.example", "SRS0=XXXX=RA=x.example=a=b=c", "a=b=c@x.example", id="equals signs"),
        pytest.param(
            "SRS1=nonsense@x.example", "SRS0=XXXX=RA=x.example=SRS1=nonsense", "SRS1=nonsense@x.example", id="SRS1?"
        ),
        pytest.param("u@x.example.", "SRS0=XXXX=RA=x.example=u", "u@x.example", id="final dot"),
    ],
)
def test_spellings(sender, rewritten, reversed_to):
    found = rewriter().forward(sender)
    hash_at = found.index("SRS0=") + 5
    assert found[:hash_at] + "XXXX" + found[hash_at + 4 :] == f"{rewritten}@srs.example.org"
    assert rewriter().reverse(found) == reversed_to
    # As Postfix asks when it takes an address in, and as tables see it: folded, without quotes.
    unquoted = found.replace('"SRS0', "SRS0").replace('"@', "@").replace(r"\"", '"').replace(r"\\", "\\")
    assert rewriter().reverse(unquoted) == reversed_to
    assert rewriter().reverse(unquoted.casefold()).casefold() == reversed_to.casefold()
    assert rewriter().forward(unquoted) == unquoted


def test_an_address_that_postfix_has_folded_leads_back():
    """With SMTPUTF8 Postfix folds more than case: ß becomes ss."""
    found = rewriter().forward("JÖRG.Groß@example.com")
    assert rewriter().reverse(found) == "JÖRG.Groß@example.com"
    assert rewriter().reverse(found.casefold()) == "jörg.gross@example.com"


@pytest.mark.parametrize(
    "sender",
    [
        *("nobody", "@example.com", "alice@", '""@example.com', "alice@exa mple.com", "alice@-[1]", "alice@a..b"),
        *('a."b c"@x.example', '"a@x.example', r"a\b@x.example", "alice@" + "a" * 64, "alice@" + "a." * 127 + "a"),
        *("a\rb@x.example", "a\0b@x.example", "a\x85b@x.example", "\udcff@x.example", "a\u2028b@x.example"),
        *("x" * 2000 + "@x.example", "SRS0=a=b=c=" + "d" * 2000 + "@srs.example.org"),
    ],
)
def test_what_srs_could_not_lead_back_to_is_not_rewritten(sender):
    assert rewriter().forward(sender) == NotRewritten("the sender is no address that SRS could lead back to")


@pytest.mark.parametrize(
    "sender",
    [
        '"a@b"@example.com',
        "a@b@example.com",
        "a%b@example.com",
        "a!b@example.com",
        "SRS0=h=t=x.example=a!b@fwd.example",
    ],
)
def test_a_sender_whose_bounces_postfix_would_refuse_is_not_rewritten(sender):
    assert rewriter().forward(sender) == NotRewritten(
        "the sender's local part has @, % or !: Postfix would refuse bounces to its SRS address"
    )


@pytest.mark.parametrize("original", ['"a@b"@example.com', "a%b@example.com", "a!b@example.com"])
def test_such_an_address_that_another_server_made_leads_back(original):
    local_part, _, domain = original.replace('"', "").rpartition("@")
    assert rewriter().reverse(signed("RA", domain, local_part)) == original


def test_a_local_part_that_would_be_too_long_is_told():
    overhead = len("SRS0=XXXX=RA=example.com=")
    fits = "x" * (64 - overhead)
    assert len(local_of(rewriter().forward(f"{fits}@example.com"))) == 64
    assert rewriter().forward(f"{fits}x@example.com") == NotRewritten(
        "SRS address would have 65 octets in its local part, 64 are allowed"
    )
    assert len(local_of(rewriter(longest_local_part=65).forward(f"{fits}x@example.com"))) == 65


def test_octets_are_counted_not_characters_and_quotes_count():
    overhead = len("SRS0=XXXX=RA=example.com=")
    assert isinstance(rewriter().forward("ö" * ((64 - overhead) // 2 + 1) + "@example.com"), NotRewritten)
    assert isinstance(rewriter().forward(f'"{"x" * (62 - overhead)} "@example.com'), NotRewritten)
    assert isinstance(rewriter().forward(f'"{"x" * (61 - overhead)} "@example.com'), str)


def test_a_path_that_would_be_too_long_is_told():
    ours = SenderRewriter([SECRET], f"{'d' * 50}.example", lambda: NOW, 240)
    overhead = len("SRS0=XXXX=RA=example.com=") + 1 + 58
    assert len(ours.forward(f"{'x' * (254 - overhead)}@example.com")) == 254
    assert ours.forward(f"{'x' * (255 - overhead)}@example.com") == NotRewritten(
        "SRS address would have 255 octets, 254 are allowed"
    )


class TestReverse:
    def test_any_separator(self):
        rewritten = rewriter().forward("alice@example.net")
        for separator in "=-+":
            assert rewriter().reverse(f"SRS0{separator}{rewritten[5:]}") == "alice@example.net"

    def test_any_case_and_brackets(self):
        rewritten = rewriter().forward("alice@example.net")
        assert rewriter().reverse(rewritten.upper()) == "ALICE@EXAMPLE.NET"
        assert rewriter().reverse(f"<{rewritten.lower()}>") == "alice@example.net"

    def test_the_hole_of_srslib_is_closed(self):
        """Of a hash that is too short, srslib compares as much as there is: one of 38 guesses opened a relay."""
        holes = [f"SRS0={character}=RA=victim.example=user@{OURS}" for character in BASE64]
        loose = srslib.SRS(SECRET)
        loose._time_fn = lambda: NOW
        opened = []
        for hole in holes:
            try:
                opened.append(loose.reverse(hole))
            except srslib.InvalidHashError:
                continue
        assert opened, "srslib has changed: look at it again"
        for hole in holes:
            with pytest.raises(Tampered):
                rewriter().reverse(hole)

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_the_beginning_of_a_right_hash_is_not_enough(self, length):
        head, given, rest = rewriter().forward("alice@example.net").split("=", 2)
        with pytest.raises(Tampered):
            rewriter().reverse("=".join((head, given[:length], rest)))

    @pytest.mark.parametrize("more", ["A", "AAAA"])
    def test_nor_is_more_than_the_hash(self, more):
        head, given, rest = rewriter().forward("alice@example.net").split("=", 2)
        with pytest.raises(Tampered):
            rewriter().reverse("=".join((head, given + more, rest)))

    @pytest.mark.parametrize(
        ("part", "other"),
        [("example.net", "example.com"), ("alice", "bob"), ("=RA=", "=RB="), ("WMMQ", "WMMR"), ("WMMQ", "WMéQ")],
    )
    def test_a_changed_address_is_tampered_with(self, part, other):
        rewritten = rewriter().forward("alice@example.net")
        assert part in rewritten
        with pytest.raises(Tampered):
            rewriter().reverse(rewritten.replace(part, other))

    def test_a_changed_srs1_is_tampered_with(self):
        rewritten = rewriter().forward("SRS0=abcd=TT=x.example=bob@fwd.example")
        with pytest.raises(Tampered):
            rewriter().reverse(rewritten.replace("fwd.example", "victim.example"))

    def test_previous_secrets_still_reverse(self):
        with_old = rewriter(OLD).forward("alice@example.net")
        assert rewriter(SECRET, OLD).forward("alice@example.net") != with_old
        assert rewriter(SECRET, OLD).reverse(with_old) == "alice@example.net"
        with pytest.raises(Tampered):
            rewriter(SECRET).reverse(with_old)

    @pytest.mark.parametrize("day", [-1, 0, 1, 20, 21])
    def test_valid_days(self, day):
        rewritten = rewriter().forward("alice@example.net")
        assert rewriter(now=NOW + day * DAY).reverse(rewritten) == "alice@example.net"

    @pytest.mark.parametrize("day", [22, 23, 365, 1022, -2, -30])
    def test_other_days(self, day):
        rewritten = rewriter().forward("alice@example.net")
        with pytest.raises(Expired):
            rewriter(now=NOW + day * DAY).reverse(rewritten)

    def test_srs1_does_not_expire_here(self):
        """It has no day of its own: the first hop judges its SRS0."""
        rewritten = rewriter().forward("SRS0=abcd=TT=x.example=bob@fwd.example")
        assert rewriter(now=NOW + 400 * DAY).reverse(rewritten) == "SRS0=abcd=TT=x.example=bob@fwd.example"

    @pytest.mark.parametrize("day", ["R", "RAA", "R1", "R8", "é2", "ß"])
    def test_a_day_that_is_none_is_tampered_with(self, day):
        with pytest.raises(Tampered):
            rewriter().reverse(signed(day, "example.net", "alice"))

    @pytest.mark.parametrize(
        ("domain", "local_part"),
        [
            ("exa mple.net", "alice"),
            ("[nonsense]", "alice"),
            ("a..b", "alice"),
            ("a" * 64, "alice"),
            ("é.example", "u"),
        ],
    )
    def test_what_leads_to_no_address_is_tampered_with(self, domain, local_part):
        with pytest.raises(Tampered):
            rewriter().reverse(signed("RA", domain, local_part))

    @pytest.mark.parametrize("character", ["\n", "\r", "\0", "\t", "\x7f", "\x9b", "\u2028", "\udcff"])
    def test_control_characters_are_tampered_with(self, character):
        with pytest.raises(Tampered):
            rewriter().reverse(rewriter().forward("alice@example.net").replace("alice", f"al{character}ice"))

    @pytest.mark.parametrize(
        "address",
        [
            *("", "<>", "alice@srs.example.org", "SRS0@srs.example.org", "SRS0=@srs.example.org", "srs.example.org"),
            "SRS0=WMMQ==RA=example.net=alice@srs.example.org",
            *("SRS0=WMMQ=RA=example.net@srs.example.org", "SRS0=WMMQ=RA==alice@srs.example.org"),
            *("SRS1=WMMQ=example.net=RA=x@srs.example.org", "SRS2=WMMQ=RA=example.net=alice@srs.example.org"),
            *("SRS0=WMMQ=RA=example.net=alice@srs.example.com", "SRS0=WMMQ=RA=example.net=alice@example.org"),
            *("SRS0=WMMQ=RA=example.net=alice", "xSRS0=WMMQ=RA=example.net=alice@srs.example.org"),
            "SRS0=WMMQ=RA=example.net=" + "a" * 1000 + "@srs.example.org",
        ],
    )
    def test_what_is_no_srs_address_of_ours(self, address):
        with pytest.raises(NotSrs):
            rewriter().reverse(address)


def signed(day, domain, local_part):
    """An SRS0 address that somebody made with our secret, whatever it leads to."""
    digest = srslib.SRS(SECRET).generate_hash((day + domain + local_part).casefold(), SECRET, 4)
    return f"SRS0={digest}={day}={domain}={local_part}@{OURS}"


class TestRefusal:
    RIGHT = rewriter().forward("alice@example.net")

    @pytest.mark.parametrize("sender", ["", "<>"])
    def test_a_bounce_is_let_in(self, sender):
        assert srs_refusal(self.RIGHT, sender, rewriter()) is None
        assert srs_refusal(self.RIGHT.lower().replace("srs.example.org", "SRS.Example.ORG"), sender, rewriter()) is None

    def test_mail_that_is_no_bounce_is_refused(self):
        assert srs_refusal(self.RIGHT, "bob@example.com", rewriter()) == (
            "550 5.7.1 SRS addresses take bounces only: mail to them needs the null sender"
        )

    @pytest.mark.parametrize("sender", ["", "bob@example.com"])
    def test_an_expired_address_is_refused(self, sender):
        assert srs_refusal(self.RIGHT, sender, rewriter(now=NOW + 22 * DAY)) == (
            "550 5.4.7 The SRS address of the recipient has expired: it took bounces for 21 days"
        )

    @pytest.mark.parametrize("sender", ["", "bob@example.com"])
    def test_a_forged_address_is_refused(self, sender):
        assert srs_refusal(self.RIGHT.replace("alice", "bob"), sender, rewriter()) == (
            "550 5.7.7 The SRS address of the recipient was not made here, or was changed on its way"
        )

    @pytest.mark.parametrize(
        "recipient",
        [
            "alice@srs.example.org",
            "srs0-support@srs.example.org",
            "SRS0=abcd=TT=x.example=u@fwd.example",
            "",
            "<>",
            "@",
        ],
    )
    def test_other_recipients_are_not_judged(self, recipient):
        assert srs_refusal(recipient, "bob@example.com", rewriter()) is None


def test_every_error_is_an_srs_error():
    assert all(issubclass(error, SrsError) for error in (NotSrs, Tampered, Expired))


def test_a_rewriter_needs_a_secret():
    with pytest.raises(ValueError, match="not enough values"):
        SenderRewriter([], OURS, lambda: NOW)
