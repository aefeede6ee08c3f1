"""Records and the tree walk of RFC 9989. Section numbers are those of its draft, draft-ietf-dmarc-dmarcbis-41."""

import pytest
from dmarc_zone import NOT_TOLD, N, U, Y, zone

from deliverypools.core.authentication.dmarc_records import (
    organizational_domain,
    parse_record,
    policy_domain,
    tree_walk_names,
)


class TestTreeWalkNames:
    @pytest.mark.parametrize(
        ("domain", "expected"),
        [
            pytest.param("com", "com", id="one label"),
            pytest.param("example.com", "example.com com", id="two labels"),
            pytest.param(
                "a.mail.example.com", "a.mail.example.com mail.example.com example.com com", id="section 4.10.2"
            ),
            pytest.param(
                "a.b.c.d.e.mail.example.com",
                "a.b.c.d.e.mail.example.com b.c.d.e.mail.example.com c.d.e.mail.example.com d.e.mail.example.com"
                " e.mail.example.com mail.example.com example.com com",
                id="eight labels: none is left out",
            ),
            pytest.param(
                "a.b.c.d.e.f.g.h.i.j.mail.example.com",
                "a.b.c.d.e.f.g.h.i.j.mail.example.com g.h.i.j.mail.example.com h.i.j.mail.example.com"
                " i.j.mail.example.com j.mail.example.com mail.example.com example.com com",
                id="section 4.10",
            ),
            pytest.param(
                "mail.a.b.c.d.e.f.g.example.com",
                "mail.a.b.c.d.e.f.g.example.com c.d.e.f.g.example.com d.e.f.g.example.com e.f.g.example.com"
                " f.g.example.com g.example.com example.com com",
                id="section 5.1.8",
            ),
            pytest.param("Example.COM.", "example.com com", id="case and final dot"),
            pytest.param("bücher.example", "xn--bcher-kva.example example", id="U-label"),
        ],
    )
    def test_of_a_domain(self, domain, expected):
        assert tree_walk_names(domain) == tuple(f"_dmarc.{each}" for each in expected.split())

    @pytest.mark.parametrize(
        "text", ["", ".", "a..b", "[192.0.2.1]", "192.0.2.1", "a b.example", "a" * 64, "a." * 130 + "b", "ü" * 5000]
    )
    def test_of_no_domain(self, text):
        assert tree_walk_names(text) == ()

    def test_leaves_out_a_name_that_would_be_too_long(self):
        domain = ".".join(["a" * 61] * 4)
        assert len(domain) == 247
        assert tree_walk_names(domain)[0] == "_dmarc." + domain.partition(".")[2]


class TestParseRecord:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "v=spf1 -all",
            "p=reject; v=DMARC1",
            "v=dmarc1; p=reject",
            "v=DMARC10; p=reject",
            "v=DMARC1 p=reject",
            "v=DMARC2; p=reject",
            " v=DMARC1; p=reject",
        ],
    )
    def test_ignores_what_is_no_dmarc_record(self, text):
        assert parse_record(text) is None

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("v=DMARC1; p=none", "none none none", id="p"),
            pytest.param("v = DMARC1 ;p =\tReject ;", "reject reject reject", id="blanks and case"),
            pytest.param("v=DMARC1;p=reject;sp=quarantine", "reject quarantine quarantine", id="np is sp"),
            pytest.param("v=DMARC1;p=none;sp=quarantine;np=reject", "none quarantine reject", id="np"),
            pytest.param("v=DMARC1;p=none;np=reject", "none none reject", id="sp is p"),
            pytest.param("v=DMARC1;p=reject;sp=quarantine;np=none;t=y", "quarantine none none", id="test mode"),
            pytest.param("v=DMARC1;p=reject;t=yes", "reject reject reject", id="no test mode"),
            pytest.param(
                "v=DMARC1;p=reject;pct=0;rf=afrf;ri=86400;fo=1", "reject reject reject", id="tags of RFC 7489"
            ),
            pytest.param("v=DMARC1;x=;=;;p=reject;y", "reject reject reject", id="nonsense"),
            pytest.param("v=DMARC1;p=none;p=reject", "none none none", id="first of two"),
            pytest.param("v=DMARC1;rua=mailto:a@example.com", "none none none", id="no p, but rua"),
            pytest.param("v=DMARC1;p=wrong;rua=x,MAILTO:a@example.com!10m", "none none none", id="wrong p, rua"),
            pytest.param("v=DMARC1;p=reject;sp=wrong;rua=https://example.com/", "none none none", id="wrong sp, rua"),
            pytest.param("v=DMARC1;p=reject;np=;rua=mailto:a@example.com", "none none none", id="empty np, rua"),
        ],
    )
    def test_policies(self, text, expected):
        record = parse_record(text)
        assert [record.policy, record.subdomain_policy, record.absent_policy] == expected.split()

    @pytest.mark.parametrize(
        "text",
        ["v=DMARC1", "v=DMARC1;", "v=DMARC1;p=wrong", "v=DMARC1;p=reject;sp=x", "v=DMARC1;rua=mailto:,nobody@"],
    )
    def test_without_policy_or_reports_there_is_no_policy(self, text):  # section 4.10.1
        record = parse_record(text)
        assert (record.policy, record.subdomain_policy, record.absent_policy) == ("", "", "")

    @pytest.mark.parametrize(
        ("tags", "strict_dkim", "strict_spf"),
        [("", False, False), ("adkim=s", True, False), ("aspf=S", False, True), ("adkim=r;aspf=x", False, False)],
    )
    def test_alignment(self, tags, strict_dkim, strict_spf):
        record = parse_record(f"v=DMARC1;p=none;{tags}")
        assert (record.is_strict_about_dkim, record.is_strict_about_spf) == (strict_dkim, strict_spf)


class TestOrganizationalDomain:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            pytest.param({}, "a.mail.example.com", id="no record: the domain itself"),
            # The three examples of section 4.10.2.
            pytest.param({"mail_example_com": U, "example_com": U}, "example.com", id="fewest labels"),
            pytest.param({"mail_example_com": N}, "mail.example.com", id="psd=n"),
            pytest.param({"com": Y}, "example.com", id="below psd=y"),
            pytest.param({"mail_example_com": N, "example_com": U, "com": Y}, "mail.example.com", id="psd=n ends it"),
            pytest.param({"mail_example_com": U, "example_com": Y, "com": U}, "mail.example.com", id="psd=y ends it"),
            pytest.param({"a_mail_example_com": Y, "example_com": U}, "a.mail.example.com", id="psd=y of its own"),
            pytest.param({"a_mail_example_com": N, "example_com": U}, "a.mail.example.com", id="psd=n of its own"),
            pytest.param({"mail_example_com": U, "com": Y}, "example.com", id="below psd=y, without a record"),
            pytest.param({"example_com": (U, N), "mail_example_com": U}, "mail.example.com", id="two records are none"),
            pytest.param({"mail_example_com": ("v=spf1 -all", N, "x")}, "mail.example.com", id="other TXT records"),
            pytest.param({"example_com": "v=DMARC1"}, "example.com", id="a record without a policy is one"),
            pytest.param({"com": NOT_TOLD}, None, id="not told"),
            pytest.param({"com": NOT_TOLD, "example_com": U}, None, id="not told above a record"),
            pytest.param({"com": NOT_TOLD, "example_com": N}, "example.com", id="not told above psd=n"),
            pytest.param({"com": NOT_TOLD, "example_com": Y}, "mail.example.com", id="not told above psd=y"),
            pytest.param({"mail_example_com": NOT_TOLD, "example_com": U}, None, id="not told below a record"),
        ],
    )
    def test_of_a_domain(self, found, expected):
        start = "a.mail.example.com"
        assert organizational_domain(start, zone(start, **found)) == expected

    def test_below_a_suffix_that_the_shortcut_reaches_first(self):
        start = "a.b.c.d.e.f.g.h.i.j.mail.example.com"
        records = zone(start, g_h_i_j_mail_example_com=Y)
        assert organizational_domain(start, records) == "f.g.h.i.j.mail.example.com"

    def test_a_name_that_nobody_asked_for_is_not_told(self):
        assert organizational_domain("example.com", {}) is None


class TestPolicyDomain:
    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            pytest.param({}, (None, True), id="none"),
            pytest.param({"news_example_com": U, "example_com": U}, ("news.example.com", True), id="its own"),
            pytest.param({"example_com": U, "com": U}, ("com", True), id="organizational domain"),
            pytest.param({"example_com": U, "com": Y}, ("example.com", True), id="before that of the suffix"),
            pytest.param({"com": Y}, ("com", True), id="public suffix"),
            pytest.param(
                {"news_example_com": U, "com": NOT_TOLD}, ("news.example.com", True), id="its own, whatever is above"
            ),
            pytest.param({"news_example_com": NOT_TOLD, "example_com": U}, (None, False), id="its own not told"),
            pytest.param({"example_com": N, "com": NOT_TOLD}, ("example.com", True), id="psd=n"),
            pytest.param({"com": NOT_TOLD}, (None, False), id="suffix not told"),
        ],
    )
    def test_of_a_domain(self, found, expected):
        assert policy_domain("news.example.com", zone("news.example.com", **found)) == expected

    def test_a_record_between_applies_to_nobody_below_it(self):  # section 4.10.1: author, organizational, suffix
        records = zone("a.b.example.com", b_example_com=U, com=Y)
        assert policy_domain("a.b.example.com", records) == ("com", True)
