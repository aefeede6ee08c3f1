"""What SPF, DKIM, DMARC and ARC come to together: was the sender shown to be legitimate?"""

import pytest
from dmarc_zone import NO_SPF, dkim, spf

from deliverypools.core.authentication import ArcResult, Authentication, DmarcResult, Result, with_authentication
from deliverypools.core.authentication.dmarc import judge_authentication, judge_envelope
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Ingress, Origin

PASS, FAIL, NONE, TEMPERROR, PERMERROR = Result.PASS, Result.FAIL, Result.NONE, Result.TEMPERROR, Result.PERMERROR


def dmarc(result, domain="example.com", reason=""):
    return DmarcResult(result=result, domain=domain, reason=reason)


NO_ARC = ArcResult(result=NONE)
VOUCHED = ArcResult(result=PASS, sealer="sealer.example", vouches="dmarc=pass")


class TestJudge:
    @pytest.mark.parametrize(
        ("of_spf", "of_dkim", "of_dmarc", "of_arc", "evidence"),
        [
            pytest.param(
                NO_SPF,
                (dkim("example.com"),),
                dmarc(PASS, reason="DKIM example.com"),
                NO_ARC,
                "DMARC pass of example.com (DKIM example.com)",
                id="DMARC pass",
            ),
            pytest.param(
                NO_SPF, (), dmarc(PASS), NO_ARC, "DMARC pass of example.com", id="DMARC of a trusted verifier"
            ),
            pytest.param(
                spf("other.example"), (), dmarc(NONE), NO_ARC, "SPF pass of other.example, no DMARC record", id="SPF"
            ),
            pytest.param(
                NO_SPF,
                (dkim("example.com"),),
                dmarc(NONE),
                NO_ARC,
                "DKIM pass of example.com, no DMARC record",
                id="DKIM",
            ),
            pytest.param(
                NO_SPF,
                (dkim("example.com"),),
                dmarc(NONE, "news.example.com"),
                NO_ARC,
                "DKIM pass of example.com, no DMARC record",
                id="DKIM of the parent",
            ),
            pytest.param(
                NO_SPF, (), dmarc(FAIL), VOUCHED, "ARC seal of sealer.example (dmarc=pass)", id="ARC against DMARC"
            ),
            pytest.param(NO_SPF, (), dmarc(NONE), VOUCHED, "ARC seal of sealer.example (dmarc=pass)", id="ARC alone"),
            pytest.param(
                spf("example.com"),
                (),
                dmarc(TEMPERROR),
                NO_ARC,
                "SPF pass of example.com, whatever its DMARC record says",
                id="SPF of the very domain",
            ),
            pytest.param(
                NO_SPF,
                (dkim("example.com"),),
                dmarc(TEMPERROR),
                NO_ARC,
                "DKIM pass of example.com, whatever its DMARC record says",
                id="DKIM of the very domain",
            ),
        ],
    )
    def test_authenticated(self, of_spf, of_dkim, of_dmarc, of_arc, evidence):
        finding = judge_authentication(of_spf, of_dkim, of_dmarc, of_arc)
        assert (finding.answer, finding.evidence) == (Answer.YES, evidence)

    @pytest.mark.parametrize(
        ("of_spf", "of_dkim", "of_dmarc", "of_arc"),
        [
            pytest.param(spf("other.example", TEMPERROR), (), dmarc(NONE), NO_ARC, id="SPF"),
            pytest.param(spf("", TEMPERROR), (), dmarc(NONE), NO_ARC, id="SPF, domain unknown"),
            pytest.param(NO_SPF, (dkim("example.com", TEMPERROR),), dmarc(NONE), NO_ARC, id="DKIM"),
            pytest.param(NO_SPF, (dkim("", TEMPERROR),), dmarc(NONE), NO_ARC, id="DKIM, domain unknown"),
            pytest.param(NO_SPF, (), dmarc(FAIL), ArcResult(result=TEMPERROR, sealer="s.example"), id="ARC"),
            pytest.param(spf("a.example.com"), (), dmarc(TEMPERROR), NO_ARC, id="DMARC may be aligned"),
            pytest.param(spf("other.example"), (), dmarc(TEMPERROR), NO_ARC, id="DMARC may be none: SPF is enough"),
            pytest.param(NO_SPF, (dkim("a.example.com"),), dmarc(TEMPERROR), NO_ARC, id="DKIM may be aligned"),
            pytest.param(NO_SPF, (dkim("a.example"),), dmarc(TEMPERROR, ""), NO_ARC, id="DMARC of an unknown domain"),
            pytest.param(NO_SPF, (dkim("example.com", TEMPERROR),), dmarc(TEMPERROR), NO_ARC, id="DKIM and DMARC"),
        ],
    )
    def test_not_told(self, of_spf, of_dkim, of_dmarc, of_arc):
        finding = judge_authentication(of_spf, of_dkim, of_dmarc, of_arc)
        assert finding.answer is Answer.UNKNOWN
        assert finding.evidence.startswith("DNS did not tell about ")

    @pytest.mark.parametrize(
        ("of_spf", "of_dkim", "of_dmarc", "of_arc", "evidence"),
        [
            pytest.param(
                spf("example.com", FAIL),
                (),
                dmarc(NONE),
                NO_ARC,
                "no DMARC record, SPF fail, no DKIM signature",
                id="all",
            ),
            pytest.param(
                NO_SPF,
                (dkim("esp.example"),),
                dmarc(NONE),
                NO_ARC,
                "no DMARC record, SPF none, no DKIM signature of the author domain",
                id="a stranger's signature",
            ),
            pytest.param(
                spf("mx.example.net", identity="helo"),
                (),
                dmarc(NONE),
                NO_ARC,
                "no DMARC record, SPF pass, no DKIM signature",
                id="a host that may send, of a null sender",
            ),
            pytest.param(
                spf("other.example"),
                (dkim("esp.example"),),
                dmarc(FAIL, reason="nothing aligned"),
                NO_ARC,
                "DMARC fail of example.com (nothing aligned)",
                id="DMARC fail",
            ),
            pytest.param(
                spf("example.com"), (), dmarc(PERMERROR, ""), NO_ARC, "DMARC permerror", id="several author domains"
            ),
            pytest.param(
                spf("example.com", FAIL),
                (),
                dmarc(TEMPERROR),
                NO_ARC,
                "DMARC temperror of example.com",
                id="no record helps",
            ),
            pytest.param(
                NO_SPF,
                (dkim("esp.example"),),
                dmarc(TEMPERROR),
                NO_ARC,
                "DMARC temperror of example.com",
                id="never aligned",
            ),
            pytest.param(
                spf("example.com", TEMPERROR),
                (),
                dmarc(FAIL),
                NO_ARC,
                "DMARC fail of example.com",
                id="DMARC knows already",
            ),
            pytest.param(
                NO_SPF,
                (dkim("esp.example", TEMPERROR),),
                dmarc(NONE),
                NO_ARC,
                "no DMARC record, SPF none, no DKIM signature of the author domain",
                id="a stranger's key not told",
            ),
            pytest.param(
                NO_SPF,
                (),
                dmarc(FAIL),
                ArcResult(result=FAIL, sealer="s.example", vouches="dmarc=pass"),
                "DMARC fail of example.com",
                id="a broken chain vouches for nothing",
            ),
            pytest.param(
                NO_SPF,
                (),
                dmarc(PERMERROR, "", "From does not name one domain"),
                VOUCHED,
                "DMARC permerror (From does not name one domain)",
                id="a seal over no author, or several",
            ),
            pytest.param(
                NO_SPF,
                (),
                dmarc(PERMERROR, ""),
                ArcResult(result=TEMPERROR, sealer="s.example"),
                "DMARC permerror",
                id="a seal not told, over no author or several",
            ),
        ],
    )
    def test_not_authenticated(self, of_spf, of_dkim, of_dmarc, of_arc, evidence):
        finding = judge_authentication(of_spf, of_dkim, of_dmarc, of_arc)
        assert (finding.answer, finding.evidence) == (Answer.NO, evidence)

    def test_evidence_is_short_and_printable(self):
        finding = judge_authentication(NO_SPF, (), dmarc(PASS, reason="x\n" * 1000))
        assert finding.evidence.isprintable()
        assert len(finding.evidence) <= 200


ENVELOPE = "example.com"


class TestJudgeEnvelope:
    @pytest.mark.parametrize(
        ("domain", "of_spf", "of_dkim", "of_dmarc", "evidence"),
        [
            pytest.param(ENVELOPE, spf(ENVELOPE), (), dmarc(NONE), "SPF pass of example.com", id="SPF"),
            pytest.param("Example.COM.", spf("EXAMPLE.com"), (), dmarc(NONE), "SPF pass of example.com", id="case"),
            pytest.param(
                "b\u00fccher.example",
                spf("xn--bcher-kva.example"),
                (),
                dmarc(NONE),
                "SPF pass of xn--bcher-kva.example",
                id="U-label",
            ),
            pytest.param(
                ENVELOPE,
                spf(ENVELOPE),
                (),
                dmarc(FAIL, "else.example"),
                "SPF pass of example.com",
                id="SPF, DMARC fail",
            ),
            pytest.param(
                ENVELOPE, spf(ENVELOPE), (), dmarc(PERMERROR, ""), "SPF pass of example.com", id="SPF, several authors"
            ),
            pytest.param(
                ENVELOPE, NO_SPF, (), dmarc(PASS), "the authenticated author is of example.com", id="the author domain"
            ),
            pytest.param(
                "bounce.example.com",
                NO_SPF,
                (),
                dmarc(PASS),
                "bounce.example.com is below example.com, the domain of the authenticated author",
                id="below the author domain",
            ),
            pytest.param(
                ENVELOPE,
                NO_SPF,
                (dkim(ENVELOPE),),
                dmarc(PASS, "news.example.com"),
                "DKIM pass of example.com, above the authenticated author's news.example.com",
                id="the signature's domain, above the author domain",
            ),
            pytest.param(
                ENVELOPE,
                NO_SPF,
                (dkim(ENVELOPE),),
                dmarc(NONE),
                "the authenticated author is of example.com",
                id="DKIM, no record",
            ),
            pytest.param(
                ENVELOPE,
                NO_SPF,
                (dkim(ENVELOPE),),
                dmarc(NONE, "news.example.com"),
                "DKIM pass of example.com, above the authenticated author's news.example.com",
                id="DKIM of the parent, no record",
            ),
            pytest.param(
                ENVELOPE,
                spf(ENVELOPE, FAIL),
                (dkim(ENVELOPE),),
                dmarc(TEMPERROR),
                "the authenticated author is of example.com",
                id="DKIM of the very author domain, whatever its record says",
            ),
        ],
    )
    def test_legitimate(self, domain, of_spf, of_dkim, of_dmarc, evidence):
        assert judge_envelope(domain, of_spf, of_dkim, of_dmarc) == Finding(Answer.YES, evidence)

    @pytest.mark.parametrize(
        ("domain", "of_spf", "of_dkim", "of_dmarc"),
        [
            pytest.param(
                ENVELOPE, NO_SPF, (dkim("evil.example"),), dmarc(PASS, "evil.example"), id="From of the attacker's own"
            ),
            pytest.param(
                ENVELOPE, NO_SPF, (dkim("evil.example"),), dmarc(NONE, "evil.example"), id="the same, no record"
            ),
            pytest.param(ENVELOPE, spf("evil.example"), (), dmarc(PASS, "evil.example"), id="SPF of another domain"),
            pytest.param(ENVELOPE, spf("a.example.com"), (), dmarc(NONE), id="SPF below"),
            pytest.param("a.example.com", spf(ENVELOPE), (), dmarc(NONE), id="SPF above"),
            pytest.param(ENVELOPE, spf(ENVELOPE, identity="helo"), (), dmarc(NONE), id="SPF of the HELO name"),
            pytest.param(ENVELOPE, spf(""), (), dmarc(NONE), id="SPF of nobody knows whom"),
            pytest.param(ENVELOPE, spf(ENVELOPE, FAIL), (), dmarc(FAIL), id="all fails"),
            pytest.param(ENVELOPE, spf(ENVELOPE, Result.SOFTFAIL), (), dmarc(NONE), id="softfail"),
            pytest.param(ENVELOPE, NO_SPF, (dkim(ENVELOPE),), dmarc(FAIL), id="DKIM, DMARC fails: strict"),
            pytest.param(ENVELOPE, NO_SPF, (dkim(ENVELOPE),), dmarc(PERMERROR, ""), id="several authors"),
            pytest.param(
                ENVELOPE, NO_SPF, (dkim(ENVELOPE, FAIL),), dmarc(PASS, "a.example.com"), id="a failed signature above"
            ),
            pytest.param("com", NO_SPF, (dkim(ENVELOPE),), dmarc(PASS), id="public suffix above the author"),
            pytest.param("victim.com", NO_SPF, (dkim(ENVELOPE),), dmarc(PASS), id="a shared public suffix"),
            pytest.param("victim.com", NO_SPF, (dkim("evil.com"),), dmarc(PASS, "com"), id="a top-level author"),
            pytest.param("b.example.com", NO_SPF, (dkim(ENVELOPE),), dmarc(PASS, "a.example.com"), id="a sibling"),
            pytest.param("notexample.com", NO_SPF, (), dmarc(PASS), id="the same end, no dot"),
            pytest.param(
                ENVELOPE, NO_SPF, (dkim("evil.example"), dkim(ENVELOPE)), dmarc(PASS, "evil.example"), id="no author's"
            ),
            pytest.param(ENVELOPE, NO_SPF, (), dmarc(PASS, ""), id="DMARC of nobody knows whom"),
            pytest.param(ENVELOPE, NO_SPF, (), dmarc(TEMPERROR), id="no record helps"),
            pytest.param(ENVELOPE, NO_SPF, (dkim("evil.example"),), dmarc(TEMPERROR), id="never aligned"),
            pytest.param(
                ENVELOPE, spf("else.example", TEMPERROR), (), dmarc(NONE), id="SPF of another domain not told"
            ),
            pytest.param(
                ENVELOPE, spf(ENVELOPE, TEMPERROR, "helo"), (), dmarc(NONE), id="SPF of the HELO name not told"
            ),
            pytest.param(ENVELOPE, NO_SPF, (dkim(ENVELOPE, TEMPERROR),), dmarc(FAIL), id="DMARC knows already"),
            pytest.param(
                ENVELOPE, NO_SPF, (dkim("", TEMPERROR),), dmarc(PASS, "evil.example"), id="author of another domain"
            ),
        ],
    )
    def test_not_legitimate(self, domain, of_spf, of_dkim, of_dmarc):
        finding = judge_envelope(domain, of_spf, of_dkim, of_dmarc)
        assert finding == Finding(Answer.NO, f"neither an SPF pass nor an authenticated author of {domain}")

    @pytest.mark.parametrize(
        ("of_spf", "of_dkim", "of_dmarc", "missing"),
        [
            pytest.param(spf(ENVELOPE, TEMPERROR), (), dmarc(FAIL), "SPF", id="SPF"),
            pytest.param(spf("", TEMPERROR), (), dmarc(PERMERROR, ""), "SPF", id="SPF, domain not told"),
            pytest.param(NO_SPF, (dkim(ENVELOPE, TEMPERROR),), dmarc(NONE), "DKIM", id="DKIM"),
            pytest.param(NO_SPF, (dkim("", TEMPERROR),), dmarc(NONE), "DKIM", id="DKIM, domain not told"),
            pytest.param(
                NO_SPF, (dkim(ENVELOPE, TEMPERROR),), dmarc(PASS, "a.example.com"), "DKIM", id="DKIM above the author"
            ),
            pytest.param(NO_SPF, (dkim("a.example.com"),), dmarc(TEMPERROR), "DMARC", id="DMARC may be aligned"),
            pytest.param(NO_SPF, (dkim("a.example"),), dmarc(TEMPERROR, ""), "DMARC", id="DMARC of an unknown domain"),
            pytest.param(
                spf(ENVELOPE, TEMPERROR),
                (dkim(ENVELOPE, TEMPERROR), dkim("a.example.com", TEMPERROR)),
                dmarc(TEMPERROR),
                "SPF, DKIM, DMARC",
                id="nothing told",
            ),
        ],
    )
    def test_not_told(self, of_spf, of_dkim, of_dmarc, missing):
        finding = judge_envelope(ENVELOPE, of_spf, of_dkim, of_dmarc)
        assert finding == Finding(Answer.UNKNOWN, f"DNS did not tell about {missing} (envelope sender of {ENVELOPE})")

    def test_a_signature_not_told_may_be_the_authors(self):
        finding = judge_envelope("bounce.example.com", NO_SPF, (dkim("", TEMPERROR),), dmarc(NONE))
        assert finding.answer is Answer.UNKNOWN

    def test_null_sender(self):
        assert judge_envelope("", spf("mx.example.com", identity="helo"), (), dmarc(PASS)) == NOT_ASKED

    @pytest.mark.parametrize("domain", ["[192.0.2.1]", "192.0.2.1", "a..b", " ", "x" * 5000, "\udcff.example"])
    def test_no_domain_name(self, domain):
        finding = judge_envelope(domain, spf(domain), (dkim(domain),), dmarc(PASS, domain))
        assert finding == Finding(Answer.NO, "the envelope sender has no domain name")


class TestOrigin:
    def test_both_findings_are_carried_printable_and_bounded(self):
        found = Authentication(
            authenticated=Finding(Answer.YES, "DMARC pass\n"), envelope=Finding(Answer.NO, "x\n" * 1000)
        )
        origin = with_authentication(Origin(ingress=Ingress.OUTSIDE), found)
        assert origin.authenticated == Finding(Answer.YES, "DMARC pass?")
        assert origin.envelope_authenticated.answer is Answer.NO
        assert origin.envelope_authenticated.evidence.isprintable()
        assert len(origin.envelope_authenticated.evidence) == 200

    def test_nothing_was_asked(self):
        origin = Origin(ingress=Ingress.OUTSIDE)
        assert with_authentication(origin, Authentication()) == origin
