"""The Authentication-Results field (RFC 8601): written, told apart, read."""

import pytest

from deliverypools.core.authentication import ArcResult, Authentication, DkimResult, DmarcResult, Result, SpfResult
from deliverypools.core.authentication.results_field import (
    TrustedResults,
    claimed_authserv_id,
    claims,
    render,
    sealed_results,
    trusted_results,
)

OURS = "mx.example.org"
BORDER = "border.example.org"
PASS, FAIL, NONE, TEMPERROR = Result.PASS, Result.FAIL, Result.NONE, Result.TEMPERROR
SIGNED = DkimResult(result=PASS, domain="example.com", selector="s1", signature="ab/d+ef=")


class TestRender:
    def test_nothing_was_done(self):
        assert render(OURS, Authentication()) == "mx.example.org;\n\tnone"

    def test_everything(self):
        found = Authentication(
            spf=SpfResult(result=Result.SOFTFAIL, domain="bounce.example.com", reason="not listed"),
            dkim=(SIGNED, DkimResult(result=Result.POLICY, domain="example.net", selector="a.b", reason="rsa-sha1")),
            dmarc=DmarcResult(result=PASS, domain="example.com", policy="reject", reason="DKIM example.com"),
            arc=ArcResult(result=PASS, sealer="sealer.example", vouches="dmarc=pass"),
        )
        assert render(OURS, found) == (
            "mx.example.org;\n"
            "\tspf=softfail smtp.mailfrom=bounce.example.com;\n"
            '\tdkim=pass header.d=example.com header.s=s1 header.b="ab/d+ef=";\n'
            "\tdkim=policy header.d=example.net header.s=a.b;\n"
            "\tdmarc=pass header.from=example.com policy.dmarc=reject;\n"
            "\tarc=pass"
        )

    def test_without_a_signature(self):
        found = Authentication(
            spf=SpfResult(result=PASS, domain="mail.example.com", identity="helo"),
            dmarc=DmarcResult(result=NONE, domain="example.com"),
        )
        assert render(OURS, found) == (
            "mx.example.org;\n"
            "\tspf=pass smtp.helo=mail.example.com;\n"
            "\tdkim=none;\n"
            "\tdmarc=none header.from=example.com"
        )

    def test_a_signature_alone(self):
        assert render(OURS, Authentication(dkim=(DkimResult(result=TEMPERROR),))) == "mx.example.org;\n\tdkim=temperror"

    def test_u_labels_are_written_as_a_labels(self):
        found = Authentication(spf=SpfResult(result=PASS, domain="Bücher.example"))
        assert "smtp.mailfrom=xn--bcher-kva.example;" in render(OURS, found)

    @pytest.mark.parametrize(
        "text",
        [
            "a\r\nX-Evil: 1",
            "a;dmarc=pass",
            "a b",
            'a"b',
            "a(b",
            "a\x00b",
            "\udcff",
            "ü\u2028x",
            "@",
            "a@b",
            "x" * 5000,
            "ü" * 5000,
        ],
    )
    def test_what_cannot_be_written_is_left_out(self, text):
        found = Authentication(
            spf=SpfResult(result=PASS, domain=text, identity=text, reason=text),
            dkim=(DkimResult(result=PASS, domain=text, selector=text, signature=text, reason=text),),
            dmarc=DmarcResult(result=FAIL, domain=text, policy=text, reason=text),
            arc=ArcResult(result=PASS, sealer=text, vouches=text, reason=text),
        )
        assert render(OURS, found) == "mx.example.org;\n\tspf=pass;\n\tdkim=pass;\n\tdmarc=fail;\n\tarc=pass"

    def test_results_that_a_method_does_not_have_are_left_out(self):
        found = Authentication(
            dkim=(DkimResult(result=Result.SOFTFAIL, domain="example.com"),),
            dmarc=DmarcResult(result=Result.NEUTRAL, domain="example.com"),
            arc=ArcResult(result=TEMPERROR),
        )
        assert render(OURS, found) == "mx.example.org;\n\tnone"

    def test_is_bounded(self):
        domain = ".".join(["a" * 60] * 4)
        many = (DkimResult(result=PASS, domain=domain, selector="s" * 200, signature="b" * 40),) * 100
        written = render(OURS, Authentication(dkim=many))
        assert written.count("dkim=pass") == 10
        assert max(map(len, written.splitlines())) < 998  # RFC 5322 section 2.1.1


class TestClaims:
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("mx.example.org; none", id="plain"),
            pytest.param(" mx.example.org 1; spf=pass", id="version"),
            pytest.param("mx.example.org/1; spf=pass", id="version behind a slash"),
            pytest.param("MX.Example.ORG; spf=pass", id="case"),
            pytest.param("mx.example.org.; spf=pass", id="final dot"),
            pytest.param("mx.example.org. 1; spf=pass", id="final dot and version"),
            pytest.param("mx.example.org", id="nothing else"),
            pytest.param("mx.example.org spf=pass smtp.mailfrom=a@example.com", id="no semicolon"),
            pytest.param("mx.example.org(x);spf=pass", id="comment behind"),
            pytest.param("(x)mx.example.org; spf=pass", id="comment before"),
            pytest.param("(x (y \\) (z)) other.example)mx.example.org; spf=pass", id="nested comments"),
            pytest.param('(") mx.example.org; spf=pass (")', id="quotation marks in comments"),
            pytest.param('("(") mx.example.org; spf=pass', id="parenthesis in quotes in a comment"),
            pytest.param("\r\n\tmx.example.org;\r\n\tspf=pass", id="folds"),
            pytest.param('"mx.example.org"; spf=pass', id="quotes"),
            pytest.param('"mx.ex\\ample.org"; spf=pass', id="quoted pair"),
            pytest.param('mx."example".org; spf=pass', id="quotes in between"),
            pytest.param('" mx.example.org "; spf=pass', id="blanks in quotes"),
            pytest.param("mx\\.example.org; spf=pass", id="escape without quotes"),
            pytest.param("mx . example\r\n .org; spf=pass", id="blanks around dots"),
            pytest.param("mx(a).(b)example.org; spf=pass", id="comments around dots"),
            pytest.param("; mx.example.org; spf=pass", id="semicolon before"),
            pytest.param("<mx.example.org>; spf=pass", id="angle brackets"),
            pytest.param("\uff4d\uff58.example.org; spf=pass", id="fullwidth letters"),
            pytest.param("mx\u3002example\u3002org; spf=pass", id="ideographic dots"),
            pytest.param("m\u200bx.exam\u00adple.org; spf=pass", id="unseen letters"),
            pytest.param("mx\x00.example.org; spf=pass", id="NUL"),
            pytest.param("mx.example.org\x00; spf=pass", id="final NUL"),
            pytest.param("mx.example.org\x00.evil.example; spf=pass", id="NUL as an end"),
            pytest.param("mx.example\udcff.org; spf=pass", id="lone byte"),
            pytest.param("mx.example.org\u00a0spf=pass", id="blank of another script"),
            pytest.param("\u3000mx.example.org; spf=pass", id="blank of another script before"),
        ],
    )
    def test_ours_in_disguise(self, value):
        assert claims(value, OURS)

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("(" * 5000, id="comment without end"),
            pytest.param("(mx.example.org; spf=pass", id="open comment"),
            pytest.param("(x) " * 1100 + "other.example", id="long comments"),
            pytest.param(" " * 5000 + "other.example; none", id="blanks"),
            pytest.param("a" * 5000 + "; none", id="long id"),
            pytest.param("a" * 300 + "; none", id="longer than a domain"),
            pytest.param('"other.example; none', id="open quote"),
            pytest.param('other"; none', id="open quote within"),
            pytest.param("=?utf-8?q?mx=2Eexample=2Eorg?=; spf=pass", id="encoded word"),
            pytest.param("mx.=?utf-8?q?example?=.org; spf=pass", id="encoded word within"),
            pytest.param("; =?utf-8?q?mx=2Eexample=2Eorg?=; spf=pass", id="encoded word behind a semicolon"),
            pytest.param("()" * 60 + "other.example; none", id="many comments"),
            pytest.param("other.example" + "()" * 60 + "; none", id="many comments behind"),
            pytest.param("other.example" + "\u200b" * 500 + "; none", id="many unseen letters"),
            pytest.param('""' * 101 + "other.example; none", id="many quotes"),
            pytest.param("\u00fc" * 101 + "; none", id="long outside ASCII"),
            pytest.param("\ufdfa" * 12 + "; none", id="long once it is normalised"),
            pytest.param('mx. \\"example.org ;' + "()" * 60 + '\\"; none', id="escaped quotes around all of that"),
        ],
    )
    def test_what_cannot_be_told_counts(self, value):
        assert claims(value, OURS)
        assert claimed_authserv_id(value) is None

    @pytest.mark.parametrize(
        ("value", "claimed"),
        [
            pytest.param("mx.google.com; spf=pass", "mx.google.com", id="another"),
            pytest.param("mx.example.org.evil.example; none", "mx.example.org.evil.example", id="ours in front"),
            pytest.param("xmx.example.org; none", "xmx.example.org", id="ours at the end"),
            pytest.param("example.org; mx.example.org", "example.org", id="ours as a result"),
            pytest.param("other.example (mx.example.org); none", "other.example", id="ours in a comment"),
            pytest.param("spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=example.com", "spf", id="no id: Microsoft"),
            pytest.param("", "", id="empty"),
            pytest.param("(x); none", "none", id="no id"),
            pytest.param("m\u0445.example.org; none", "xn--m-gub.example.org", id="Cyrillic letter"),
            pytest.param("Other.Example 1; none", "other.example", id="version"),
            pytest.param("other.example; (" + "()" * 3000, "other.example", id="many comments in the results"),
            pytest.param("other.example (x); " + '"\\(' * 3000, "other.example", id="many marks in the results"),
            pytest.param("a" * 255 + "; none", "a" * 255, id="as long as a domain"),
        ],
    )
    def test_others(self, value, claimed):
        assert not claims(value, OURS)
        assert claimed_authserv_id(value) == claimed

    @pytest.mark.parametrize(
        "value", ["mx.bücher.example; none", "MX.BÜCHER.example; none", "mx.xn--bcher-kva.example"]
    )
    @pytest.mark.parametrize("ours", ["mx.xn--bcher-kva.example", "mx.bücher.example."])
    def test_u_label_or_a_label(self, value, ours):
        assert claims(value, ours)


class TestTrustedResults:
    def test_of_the_border(self):
        value = (
            "border.example.org 1;\r\n\tspf=pass (because) smtp.mailfrom=bounce@example.com;\r\n"
            "\tdkim=pass (2048-bit key) header.d=Example.com header.s=s1 header.a=rsa-sha256 header.b=abcd;\r\n"
            '\tdkim=fail reason="signature (wrong)" header.i=@lists.example.net;\r\n'
            "\tdmarc=pass (p=none dis=none) header.from=example.com policy.dmarc=none"
        )
        assert trusted_results([value], ["Border.example.org."]) == TrustedResults(
            spf=SpfResult(result=PASS, domain="example.com"),
            dkim=(
                DkimResult(result=PASS, domain="example.com", selector="s1", signature="abcd"),
                DkimResult(result=FAIL, domain="lists.example.net"),
            ),
            dmarc=DmarcResult(result=PASS, domain="example.com", policy="none"),
        )

    def test_what_we_write_can_be_read(self):
        found = Authentication(
            spf=SpfResult(result=FAIL, domain="example.com"),
            dkim=(SIGNED, DkimResult(result=NONE)),
            dmarc=DmarcResult(result=PASS, domain="example.com", policy="quarantine"),
            arc=ArcResult(result=PASS),
        )
        assert trusted_results([render(OURS, found)], [OURS]) == TrustedResults(
            spf=found.spf, dkim=(SIGNED,), dmarc=found.dmarc
        )

    def test_one_field_for_each_method(self):  # OpenDKIM, OpenDMARC and policyd-spf each write their own
        values = [
            f"{BORDER}; dmarc=fail header.from=example.com",
            f"{BORDER}; spf=pass smtp.mailfrom=example.com",
            f"{BORDER}; dkim=none",
        ]
        assert trusted_results(values, [BORDER]) == TrustedResults(
            spf=SpfResult(result=PASS, domain="example.com"),
            dkim=(),
            dmarc=DmarcResult(result=FAIL, domain="example.com"),
        )

    def test_topmost_first(self):
        values = [
            f"{BORDER}; dmarc=fail header.from=a.example; dkim=none; spf=fail",
            f"{BORDER}; dmarc=pass header.from=b.example; dkim=pass header.d=b.example; spf=pass",
        ]
        assert trusted_results(values, [BORDER]) == TrustedResults(
            spf=SpfResult(result=FAIL), dkim=(), dmarc=DmarcResult(result=FAIL, domain="a.example")
        )

    def test_first_result_of_a_field(self):
        found = trusted_results([f"{BORDER}; dmarc=fail; dmarc=pass"], [BORDER])
        assert found.dmarc == DmarcResult(result=FAIL)

    def test_spf_of_the_sender_before_that_of_the_helo_name(self):
        value = f"{BORDER}; spf=pass smtp.helo=mx.example.com; spf=fail smtp.mailfrom=example.com"
        assert trusted_results([value], [BORDER]).spf == SpfResult(result=FAIL, domain="example.com")

    def test_spf_of_the_helo_name_alone(self):
        found = trusted_results([f"{BORDER}; spf=pass smtp.helo=mx.example.com"], [BORDER])
        assert found.spf == SpfResult(result=PASS, domain="mx.example.com", identity="helo")

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("other.example; spf=pass; dkim=pass; dmarc=pass", id="another id"),
            pytest.param("border\u200b.example.org; spf=pass", id="trusted id in disguise"),
            pytest.param("spf=pass smtp.mailfrom=example.com; dmarc=pass", id="no id"),
            pytest.param("", id="empty"),
            pytest.param(BORDER, id="id alone"),
            pytest.param(f"{BORDER}; none", id="none"),
            pytest.param(f"{BORDER} 2; spf=pass", id="version of the future"),
            pytest.param(f"{BORDER}; spf", id="no result"),
            pytest.param(f"{BORDER}; dkim=softfail; dmarc=bestguesspass; compauth=pass", id="results of no RFC"),
            pytest.param(f"{BORDER}; spf=passed; dmarc=yes; dara=pass", id="results of nobody"),
            pytest.param(f"{BORDER}; (spf=pass); auth=pass smtp.auth=a", id="in a comment"),
            pytest.param(f"{BORDER}; spf=pass (" + "(" * 5000, id="deep comments"),
            pytest.param(f"{BORDER}; spf=pass " + "x" * 9000, id="too long"),
            pytest.param(f'"{BORDER}"; spf=pass', id="quoted id, which authres does not read"),
        ],
    )
    def test_nothing_is_reported(self, value):
        assert trusted_results([value], [BORDER]) == TrustedResults()

    def test_a_malformed_field_costs_only_itself(self):
        values = [f"{BORDER}; spf=", f"{BORDER}; spf=pass smtp.mailfrom=example.com;"]
        assert trusted_results(values, [BORDER]).spf == SpfResult(result=PASS, domain="example.com")

    def test_a_value_that_is_no_domain_is_left_out(self):
        value = f'{BORDER}; spf=pass smtp.mailfrom="a b"; dmarc=pass header.from=192.0.2.1; dkim=pass header.d=x..y'
        assert trusted_results([value], [BORDER]) == TrustedResults(
            spf=SpfResult(result=PASS), dkim=(DkimResult(result=PASS),), dmarc=DmarcResult(result=PASS)
        )

    def test_a_comment_in_utf_8_is_skipped(self):
        assert (
            trusted_results([f"{BORDER}; spf=pass (größer) smtp.mailfrom=a.example"], [BORDER]).spf.domain
            == "a.example"
        )

    def test_only_so_many_signatures(self):
        value = BORDER + "; dkim=pass header.d=a.example" * 50
        assert len(trusted_results([value], [BORDER]).dkim) == 10

    @pytest.mark.parametrize(
        ("before", "expected"), [(4, PASS), (5, None)], ids=["five fields are read", "the sixth is not"]
    )
    def test_only_so_many_fields_are_read(self, before, expected):
        found = trusted_results([f"{BORDER}; dkim=none"] * before + [f"{BORDER}; spf=pass"], [BORDER])
        assert (found.spf and found.spf.result) == expected

    @pytest.mark.parametrize(
        ("results", "expected"), [(50, PASS), (51, None)], ids=["fifty results", "more are as good as malformed"]
    )
    def test_only_so_many_results_of_a_field(self, results, expected):
        value = BORDER + "; spf=pass" * results
        for found in (trusted_results([value], [BORDER]), sealed_results(f"i=1; {value}")):
            assert (found.spf and found.spf.result) == expected

    @pytest.mark.parametrize(
        ("characters", "expected"), [(3000, PASS), (3001, None)], ids=["as long as it may be", "too long"]
    )
    def test_only_so_long_a_field(self, characters, expected):
        value = f"{BORDER}; spf=pass reason="
        value += "x" * (characters - len(value))
        assert len(value) == characters
        for found in (trusted_results([value], [BORDER]), sealed_results(f"i=1;{value}")):
            assert (found.spf and found.spf.result) == expected

    def test_what_is_too_much_costs_only_itself(self):
        values = [BORDER + "; spf=fail" * 51, f"{BORDER}; spf=pass smtp.mailfrom=example.com"]
        assert trusted_results(values, [BORDER]).spf == SpfResult(result=PASS, domain="example.com")

    def test_only_so_many_fields_are_looked_at(self):
        endless = iter(lambda: "other.example; none", None)
        assert trusted_results(endless, [BORDER]) == TrustedResults()


class TestSealedResults:
    @pytest.mark.parametrize(
        "value",
        [
            "i=1; mx.google.com; dmarc=pass header.from=a.example",
            " I = 10 ;\r\n\tmx.google.com; dmarc=pass header.from=a.example",
        ],
    )
    def test_of_an_instance(self, value):
        assert sealed_results(value).dmarc == DmarcResult(result=PASS, domain="a.example")

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "i=1;",
            "i=1; none",
            "mx.google.com; dmarc=pass",
            "i=x; mx.google.com; dmarc=pass",
            "i=1 mx.google.com; dmarc=pass",
            "i=1; dmarc=pass",
            "i=1; mx.google.com; dmarc=pass" + " " * 9000 + "x",
            "i=1; mx.google.com; dmarc=pass (" + "(" * 4000,
        ],
    )
    def test_malformed_is_nothing(self, value):
        assert sealed_results(value) == TrustedResults()

    def test_of_microsoft(self):
        value = (
            "i=1; mx.microsoft.com 1; spf=pass (sender ip is 192.0.2.1) smtp.rcpttodomain=b.example"
            " smtp.mailfrom=a.example; dmarc=pass (p=none sp=none pct=100) action=none header.from=a.example;"
            " dkim=pass (signature was verified) header.d=a.example; arc=none"
        )
        assert sealed_results(value) == TrustedResults(
            spf=SpfResult(result=PASS, domain="a.example"),
            dkim=(DkimResult(result=PASS, domain="a.example"),),
            dmarc=DmarcResult(result=PASS, domain="a.example"),
        )
