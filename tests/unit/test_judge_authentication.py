"""What SPF, DKIM, DMARC and ARC come to together: was the sender shown to be legitimate?"""

import pytest
from dmarc_zone import NO_SPF, dkim, spf

from deliverypools.core.authentication import ArcResult, DmarcResult, Result
from deliverypools.core.authentication.dmarc import judge_authentication
from deliverypools.core.facts import Answer

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
            pytest.param(
                NO_SPF, (), dmarc(PERMERROR, ""), VOUCHED, "ARC seal of sealer.example (dmarc=pass)", id="ARC alone"
            ),
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
        ],
    )
    def test_not_authenticated(self, of_spf, of_dkim, of_dmarc, of_arc, evidence):
        finding = judge_authentication(of_spf, of_dkim, of_dmarc, of_arc)
        assert (finding.answer, finding.evidence) == (Answer.NO, evidence)

    def test_evidence_is_short_and_printable(self):
        finding = judge_authentication(NO_SPF, (), dmarc(PASS, reason="x\n" * 1000))
        assert finding.evidence.isprintable()
        assert len(finding.evidence) <= 200
