"""DMARC by RFC 9989. Section numbers are those of its draft, draft-ietf-dmarc-dmarcbis-41."""

import pytest
from dmarc_zone import NO_SPF, NOT_TOLD, N, U, Y, dkim, spf, zone

from deliverypools.core.authentication import Result
from deliverypools.core.authentication.dmarc import evaluate, names_to_ask
from deliverypools.core.authentication.dmarc_records import tree_walk_names
from deliverypools.core.facts import Answer

PASS, FAIL, NONE, TEMPERROR, PERMERROR = Result.PASS, Result.FAIL, Result.NONE, Result.TEMPERROR, Result.PERMERROR
STRICT = "v=DMARC1; p=reject; adkim=s; aspf=s"


class TestAlignment:
    @pytest.mark.parametrize(
        ("identifier", "record", "expected"),
        [
            # Table 1 of section 4.4.
            pytest.param("foo.example.com", U, PASS, id="relaxed"),
            pytest.param("news.example.com", U, PASS, id="identical"),
            pytest.param("foo.example.net", U, FAIL, id="none"),
            pytest.param("foo.example.com", STRICT, FAIL, id="strict: another subdomain"),
            pytest.param("example.com", STRICT, FAIL, id="strict: the parent"),
            pytest.param("news.example.com", STRICT, PASS, id="strict: identical"),
            pytest.param("NEWS.Example.COM.", STRICT, PASS, id="strict: written otherwise"),
            pytest.param("example.com", U, PASS, id="relaxed: the parent"),
            pytest.param("a.b.news.example.com", U, PASS, id="relaxed: below"),
            pytest.param("badexample.com", U, FAIL, id="not at a dot"),
            pytest.param("example.com.evil.example", U, FAIL, id="as a prefix"),
            pytest.param("com", U, FAIL, id="above the organizational domain"),
        ],
    )
    @pytest.mark.parametrize("method", ["spf", "dkim"])
    def test_with_the_record_at_the_organizational_domain(self, identifier, record, expected, method):
        records = zone("news.example.com", identifier, example_com=record)
        of_spf, of_dkim = (spf(identifier), ()) if method == "spf" else (NO_SPF, (dkim(identifier),))
        result = evaluate(("news.example.com",), records, of_spf, of_dkim)
        assert (result.result, result.domain, result.policy) == (expected, "news.example.com", "reject")

    @pytest.mark.parametrize(
        ("record", "expected"), [("v=DMARC1;p=none;adkim=s", PASS), ("v=DMARC1;p=none;aspf=s", FAIL)]
    )
    def test_adkim_and_aspf_are_two(self, record, expected):
        records = zone("example.com", "a.example.com", example_com=record)
        assert evaluate(("example.com",), records, spf("a.example.com"), ()).result is expected

    def test_psd_n_makes_another_organization(self):  # section 5.1.8
        records = zone("lab.example.com", "www.example.com", example_com=U, lab_example_com=N)
        assert evaluate(("lab.example.com",), records, NO_SPF, (dkim("www.example.com"),)).result is FAIL

    def test_domains_of_one_suffix_are_strangers(self):
        records = zone("one.uk", "two.uk", one_uk=U, uk=Y)
        assert evaluate(("one.uk",), records, spf("two.uk"), (dkim("uk"),)).result is FAIL

    def test_a_suffix_without_psd_y_joins_strangers(self):  # section 4.10.2 rule 3: why section 5.2 asks for psd=y
        records = zone("one.uk", "two.uk", one_uk=U, uk=U)
        assert evaluate(("one.uk",), records, spf("two.uk"), ()).result is PASS

    def test_one_of_many_signatures_is_enough(self):  # section 4.4.1
        records = zone("example.com", example_com=U)
        signatures = (dkim("esp.example"), dkim("example.com", FAIL), dkim("example.com"))
        result = evaluate(("example.com",), records, spf("esp.example"), signatures)
        assert (result.result, result.reason) == (PASS, "DKIM example.com")

    @pytest.mark.parametrize("result", [FAIL, NONE, PERMERROR, Result.POLICY, Result.NEUTRAL, Result.SOFTFAIL])
    def test_only_a_pass_authenticates(self, result):
        records = zone("example.com", example_com=U)
        of_spf, signatures = spf("example.com", result), (dkim("example.com", result),)
        assert evaluate(("example.com",), records, of_spf, signatures).result is FAIL

    def test_spf_of_the_helo_name_counts(self):  # of a null sender: section 3.2.4
        records = zone("example.com", "mx.example.com", example_com=U)
        result = evaluate(("example.com",), records, spf("mx.example.com", identity="helo"), ())
        assert (result.result, result.reason) == (PASS, "SPF mx.example.com")

    def test_signatures_beyond_the_tenth_do_not_count(self):
        records = zone("example.com", example_com=U)
        others = tuple(dkim(f"x{number}.example") for number in range(10))
        assert evaluate(("example.com",), records, NO_SPF, (*others, dkim("example.com"))).result is FAIL

    def test_signatures_that_fail_do_not_crowd_out(self):
        records = zone("example.com", example_com=U)
        others = tuple(dkim(f"x{number}.example", FAIL) for number in range(50))
        assert evaluate(("example.com",), records, NO_SPF, (*others, dkim("example.com"))).result is PASS


class TestPolicy:
    RECORD = "v=DMARC1; p=none; sp=quarantine; np=reject"

    @pytest.mark.parametrize(
        ("author_domain", "exists", "expected"),
        [
            pytest.param("example.com", Answer.YES, "none", id="p"),
            pytest.param("example.com", Answer.NO, "none", id="p, whatever exists"),
            pytest.param("a.example.com", Answer.YES, "quarantine", id="sp"),
            pytest.param("a.example.com", Answer.NO, "reject", id="np"),
            pytest.param("a.example.com", Answer.UNKNOWN, "quarantine", id="not known to be absent"),
        ],
    )
    def test_of_a_failure(self, author_domain, exists, expected):
        records = zone(author_domain, example_com=self.RECORD)
        result = evaluate((author_domain,), records, NO_SPF, (), exists)
        assert (result.result, result.policy) == (FAIL, expected)

    def test_own_record_of_a_subdomain_applies_with_p(self):
        records = zone("a.example.com", a_example_com=self.RECORD, example_com=U)
        assert evaluate(("a.example.com",), records, NO_SPF, ()).policy == "none"

    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            ({}, "no record"),
            ({"example_com": (U, U)}, "no record"),
            ({"example_com": "v=DMARC1; p=wrong"}, "the record has no valid policy"),
        ],
    )
    def test_without_a_record_there_is_no_dmarc(self, found, reason):
        records = zone("example.com", **found)
        result = evaluate(("example.com",), records, spf("example.com"), (dkim("example.com"),))
        assert (result.result, result.policy, result.reason) == (NONE, "", reason)


class TestAuthorDomains:
    @pytest.mark.parametrize(
        "domains", [(), ("",), ("a.example", "b.example"), ("a.example", "a.example", "x.a.example"), ("192.0.2.1",)]
    )
    def test_none_or_several_never_pass(self, domains):
        records = zone(*domains, a_example=U, b_example=U)
        result = evaluate(domains, records, spf("a.example"), (dkim("a.example"), dkim("b.example")))
        assert (result.result, result.domain) == (PERMERROR, "")

    def test_one_domain_several_times_is_one(self):
        records = zone("a.example", a_example=U)
        assert evaluate(("a.example", "A.example."), records, spf("a.example"), ()).result is PASS


class TestNotTold:
    """A look-up without an answer is no "no", and no matter where every answer comes to the same."""

    @pytest.mark.parametrize(
        ("found", "identifier", "expected"),
        [
            pytest.param({"news_example_com": NOT_TOLD}, "news.example.com", TEMPERROR, id="own record"),
            pytest.param({"com": NOT_TOLD}, "news.example.com", TEMPERROR, id="no record below what was not told"),
            pytest.param({"news_example_com": U, "com": NOT_TOLD}, "news.example.com", PASS, id="identical"),
            pytest.param(
                {"news_example_com": U, "example_com": NOT_TOLD, "com": NOT_TOLD},
                "news.example.com",
                PASS,
                id="identical, all above not told",
            ),
            pytest.param(
                {"news_example_com": U, "example_com": U, "com": NOT_TOLD}, "x.example.com", PASS, id="shared"
            ),
            pytest.param({"news_example_com": U, "example_com": NOT_TOLD}, "x.example.com", TEMPERROR, id="decides"),
            pytest.param({"news_example_com": U, "example_com": NOT_TOLD}, "x.example.net", FAIL, id="stranger"),
            pytest.param({"news_example_com": U, "com": NOT_TOLD}, "example.net", FAIL, id="not above both"),
            pytest.param({"news_example_com": U, "com": NOT_TOLD}, "other.com", TEMPERROR, id="above both"),
            pytest.param({"news_example_com": N, "com": NOT_TOLD}, "other.com", FAIL, id="never reached"),
            pytest.param({"news_example_com": STRICT, "com": NOT_TOLD}, "example.com", FAIL, id="strict"),
            pytest.param(
                {"news_example_com": U, "example_com": U, "x_example_com": NOT_TOLD},
                "x.example.com",
                TEMPERROR,
                id="the other may be psd=n",
            ),
        ],
    )
    def test_record(self, found, identifier, expected):
        records = zone("news.example.com", identifier, **found)
        assert evaluate(("news.example.com",), records, NO_SPF, (dkim(identifier),)).result is expected

    @pytest.mark.parametrize(
        ("identifier", "record", "expected"),
        [
            pytest.param("example.com", U, TEMPERROR, id="identical"),
            pytest.param("a.example.com", U, TEMPERROR, id="aligned"),
            pytest.param("a.example.com", STRICT, FAIL, id="strict"),
            pytest.param("esp.example", U, FAIL, id="stranger"),
            pytest.param("", U, TEMPERROR, id="of an unknown domain"),
        ],
    )
    @pytest.mark.parametrize("method", ["spf", "dkim"])
    def test_result_of_spf_or_dkim(self, identifier, record, expected, method):
        records = zone("example.com", identifier, example_com=record)
        of_spf, of_dkim = NO_SPF, (dkim(identifier, TEMPERROR),)
        if method == "spf":
            of_spf, of_dkim = spf(identifier, TEMPERROR), ()
        assert evaluate(("example.com",), records, of_spf, of_dkim).result is expected

    def test_a_pass_needs_no_other_answer(self):
        records = zone("example.com", example_com=U)
        result = evaluate(("example.com",), records, spf("example.com", TEMPERROR), (dkim("example.com"),))
        assert result.result is PASS

    def test_everything_unknown_is_bounded(self):
        labels = ".".join("abcdefg")
        signatures = tuple(dkim(f"x{number}.{labels}") for number in range(10))
        records = {f"_dmarc.y.{labels}": (U,)}
        result = evaluate((f"y.{labels}",), records, spf(f"z.{labels}"), signatures)
        assert result.result is TEMPERROR


class TestNamesToAsk:
    def test_of_the_author_domain_first(self):
        assert names_to_ask("a.example.com", NO_SPF, ()) == tree_walk_names("a.example.com")

    def test_only_of_what_passed_or_may(self):
        signatures = (dkim("one.com"), dkim("two.com", TEMPERROR), dkim("three.com", FAIL))
        names = names_to_ask("example.com", spf("four.com", FAIL), signatures)
        assert names == ("_dmarc.example.com", "_dmarc.com", "_dmarc.one.com", "_dmarc.two.com")

    def test_not_under_another_top_level_domain(self):
        assert names_to_ask("example.com", spf("esp.example"), (dkim("example.net"),)) == (
            "_dmarc.example.com",
            "_dmarc.com",
        )

    def test_not_outside_of_the_organizational_domain_where_that_is_known(self):
        records = zone("a.example.com", example_com=U)
        signatures = (dkim("esp.com"), dkim("b.example.com"))
        names = names_to_ask("a.example.com", NO_SPF, signatures, records)
        assert names == (*tree_walk_names("a.example.com"), "_dmarc.b.example.com")

    def test_at_most_eight_for_each_of_twelve_domains(self):
        signatures = tuple(dkim(f"{number}.b.c.d.e.f.g.{number}.com") for number in range(50))
        names = names_to_ask("a.b.c.d.e.f.g.h.com", spf("q.b.c.d.e.f.g.q.com"), signatures)
        assert len(names) == len(set(names)) <= 8 * 12
        assert len([name for name in names if name.count(".") == 9]) == 12

    def test_no_domain(self):
        assert names_to_ask("", spf("example.com"), (dkim("example.com"),)) == ()
