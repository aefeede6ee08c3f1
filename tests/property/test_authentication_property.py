"""DMARC and Authentication-Results: whatever a message and its DNS say, an answer, never an exception, and bounded."""

import re
from dataclasses import replace

from full_reading import claims_in_full
from hypothesis import example, given
from hypothesis import strategies as st

from deliverypools.core.authentication import ArcResult, Authentication, DkimResult, DmarcResult, Result, SpfResult
from deliverypools.core.authentication.author_domain import author_domains
from deliverypools.core.authentication.dmarc import evaluate, judge_authentication, judge_envelope, names_to_ask
from deliverypools.core.authentication.dmarc_records import (
    Psd,
    mail_domain,
    organizational_domain,
    parse_record,
    tree_walk_names,
)
from deliverypools.core.authentication.results_field import (
    claimed_authserv_id,
    claims,
    render,
    sealed_results,
    trusted_results,
)
from deliverypools.core.facts import NOT_ASKED, Answer
from deliverypools.core.headers import Headers

OURS = "mx.example.org"
# What a milter sees: UTF-8 with lone bytes as surrogates; never other surrogates.
FROM_THE_WIRE = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
TEXT = st.one_of(FROM_THE_WIRE, st.text(max_size=60))
DOMAINS = st.lists(st.sampled_from("abc"), min_size=1, max_size=10).map(".".join)
ANY_DOMAIN = st.one_of(DOMAINS, TEXT)
RESULTS = st.sampled_from(Result)
KNOWN_RESULTS = st.sampled_from([each for each in Result if each is not Result.TEMPERROR])
KINDS = [None, "v=DMARC1;p=reject", "v=DMARC1;p=reject;psd=n", "v=DMARC1;p=reject;psd=y", "v=DMARC1;p=none;adkim=s"]


def spf_results(domains):
    return st.builds(
        SpfResult,
        result=RESULTS,
        domain=domains,
        identity=st.one_of(st.sampled_from(["mailfrom", "helo"]), TEXT),
        reason=TEXT,
    )


def dkim_results(domains):
    return st.lists(
        st.builds(DkimResult, result=RESULTS, domain=domains, selector=TEXT, signature=TEXT), max_size=5
    ).map(tuple)


DMARC_RESULTS = st.builds(DmarcResult, result=RESULTS, domain=ANY_DOMAIN, policy=TEXT, reason=TEXT)
ARC_RESULTS = st.builds(ArcResult, result=RESULTS, sealer=TEXT, vouches=TEXT)
FRAGMENTS = st.sampled_from(
    [
        *'();"\\=.@<>,: \t\r\n',
        *("mx.example.org", "mx", "example", "spf=pass", "dkim=pass", "dmarc=fail", "smtp.mailfrom", "header.d"),
        *("header.from", "a.example", "reason", "none", "i=1", "=?utf-8?q?x?=", "ü", "\udcff", "\u200b", "1"),
    ]
)
DISGUISES = st.lists(
    st.one_of(
        FRAGMENTS,
        st.sampled_from(["mx.", ".example", ".org", "mx.example.org", '"', "\\", "(", ")", "\x00", "\uff4d\uff58"]),
        st.tuples(
            st.sampled_from(["()", '""', "\\x", '\\"', "\x00", " ", "\u200b", "(;)", ";"]), st.integers(1, 2100)
        ).map(lambda pair: pair[0] * pair[1]),
    ),
    max_size=12,
).map("".join)
FIELDS = st.one_of(TEXT, st.lists(FRAGMENTS, max_size=30).map("".join))
ADDRESSES = st.one_of(
    TEXT, st.lists(st.one_of(FRAGMENTS, st.sampled_from(["a@b.example", "x", "[", "]"])), max_size=20).map("".join)
)


@given(TEXT)
def test_a_record_has_three_policies_or_none(text):
    record = parse_record("v=DMARC1;" + text)
    given_policies = {record.policy, record.subdomain_policy, record.absent_policy}
    assert given_policies == {""} or given_policies <= {"none", "quarantine", "reject"}
    assert record.psd in Psd


@given(ANY_DOMAIN)
def test_a_tree_walk_is_bounded(domain):
    names = tree_walk_names(domain)
    assert len(names) <= 8
    assert list(names) == sorted(set(names), key=len, reverse=True)
    assert all(name.isascii() and name.startswith("_dmarc.") and len(name) <= 253 for name in names)


@given(ANY_DOMAIN, spf_results(ANY_DOMAIN), dkim_results(ANY_DOMAIN), st.data())
def test_evaluation_is_total_and_asks_for_all_it_needs(author_domain, spf, dkim, data):
    """Where every name that was asked for is answered, and every method has a result, the result is known."""
    first = {name: data.draw(answers()) for name in tree_walk_names(author_domain)}
    names = names_to_ask(author_domain, spf, dkim, first)
    assert len(names) <= 8 * 7
    assert set(first) <= set(names)
    records = {name: first[name] if name in first else data.draw(answers()) for name in names}
    result = evaluate((author_domain,), records, spf, dkim)
    has_all = all(each.result is not Result.TEMPERROR for each in (spf, *dkim))
    assert result.result is not Result.TEMPERROR or not has_all
    assert (result.result is Result.PERMERROR) == (mail_domain(author_domain) == "")
    assert set(names) <= set(names_to_ask(author_domain, spf, dkim))


def answers():
    return st.sampled_from(KINDS).map(lambda text: (text,) if text else ())


@given(DOMAINS, DOMAINS, st.lists(st.one_of(st.just("not told"), st.sampled_from(KINDS)), min_size=16, max_size=16))
@example("a.b.c", "b.b.c", ["not told"] * 16)
def test_what_was_not_told_leaves_only_what_stays_true(author_domain, signer, kinds):
    """A result that is known in spite of missing answers is the result under every answer."""
    names = list(dict.fromkeys(tree_walk_names(author_domain) + tree_walk_names(signer)))
    records = {n: None if k == "not told" else (k,) if k else () for n, k in zip(names, kinds, strict=False)}
    spf, dkim = SpfResult(result=Result.NONE), (DkimResult(result=Result.PASS, domain=signer),)
    found = evaluate((author_domain,), records, spf, dkim)
    for kind in KINDS:
        told = {name: ((kind,) if kind else ()) if texts is None else texts for name, texts in records.items()}
        result = evaluate((author_domain,), told, spf, dkim)
        assert result.result is not Result.TEMPERROR
        assert found.result in (Result.TEMPERROR, result.result)
        told_organization = organizational_domain(author_domain, told)
        assert organizational_domain(author_domain, records) in (None, told_organization)


@given(spf_results(ANY_DOMAIN), dkim_results(ANY_DOMAIN), DMARC_RESULTS, st.one_of(st.none(), ARC_RESULTS))
def test_judgement_is_total_and_never_takes_missing_for_no(spf, dkim, dmarc, arc):
    finding = judge_authentication(spf, dkim, dmarc, arc)
    assert finding.evidence.isprintable()
    assert 0 < len(finding.evidence) <= 200
    if finding.answer is Answer.UNKNOWN:
        assert Result.TEMPERROR in {spf.result, dmarc.result, *(each.result for each in dkim), arc and arc.result}
    if dmarc.result is Result.PERMERROR:
        assert finding.answer is Answer.NO


@given(ANY_DOMAIN, spf_results(ANY_DOMAIN), dkim_results(ANY_DOMAIN), DMARC_RESULTS)
def test_judgement_of_the_envelope_is_total(domain, spf, dkim, dmarc):
    finding = judge_envelope(domain, spf, dkim, dmarc)
    assert finding.evidence.isprintable()
    assert len(finding.evidence) <= 200
    assert (finding == NOT_ASKED) == (domain == "")
    if finding.answer is Answer.UNKNOWN:
        assert Result.TEMPERROR in {spf.result, dmarc.result, *(each.result for each in dkim)}


@given(DOMAINS, spf_results(DOMAINS), dkim_results(DOMAINS), st.builds(DmarcResult, result=RESULTS, domain=DOMAINS))
def test_an_envelope_sender_is_vouched_for_by_its_own_domain(domain, spf, dkim, dmarc):
    """SPF of it, the author's domain at or above it, or a signature of it at or above the author's domain."""
    if judge_envelope(domain, spf, dkim, dmarc).answer is not Answer.YES:
        return
    passed = {each.domain for each in dkim if each.result is Result.PASS}
    of_spf = spf.result is Result.PASS and spf.identity == "mailfrom" and spf.domain == domain
    at_or_below = domain == dmarc.domain or domain.endswith(f".{dmarc.domain}")
    signed_above = domain in passed and dmarc.domain.endswith(f".{domain}")
    assert of_spf or at_or_below or signed_above
    assert of_spf or dmarc.result is Result.PASS or passed
    assert of_spf or dmarc.result not in (Result.FAIL, Result.PERMERROR)


@given(
    DOMAINS,
    DOMAINS,
    spf_results(st.one_of(st.just(""), DOMAINS)),
    dkim_results(st.one_of(st.just(""), DOMAINS)),
    st.data(),
)
def test_what_was_not_told_about_an_envelope_leaves_only_what_stays_true(domain, author_domain, spf, dkim, data):
    """YES and NO in spite of missing answers stay so under every answer; with all answers nothing is unknown."""
    kinds = st.one_of(st.just("not told"), st.sampled_from(KINDS))
    names = names_to_ask(author_domain, spf, dkim)
    drawn = {name: data.draw(kinds) for name in names}
    records = {name: None if kind == "not told" else (kind,) if kind else () for name, kind in drawn.items()}
    finding = judge_envelope(domain, spf, dkim, evaluate((author_domain,), records, spf, dkim))
    told_spf, *told_dkim = (
        replace(each, result=data.draw(KNOWN_RESULTS), domain=each.domain or data.draw(DOMAINS))
        if each.result is Result.TEMPERROR
        else each
        for each in (spf, *dkim)
    )
    told = {name: records.get(name) for name in names_to_ask(author_domain, told_spf, told_dkim)}
    told = {name: data.draw(answers()) if texts is None else texts for name, texts in told.items()}
    dmarc = evaluate((author_domain,), told, told_spf, told_dkim)
    assert dmarc.result is not Result.TEMPERROR
    settled = judge_envelope(domain, told_spf, told_dkim, dmarc)
    assert settled.answer is not Answer.UNKNOWN
    assert finding.answer in (Answer.UNKNOWN, settled.answer)


@given(st.lists(ADDRESSES, max_size=3), st.booleans())
def test_author_domains_are_domains(fields, is_complete):
    found = author_domains(Headers.of([("From", field) for field in fields], is_complete=is_complete))
    assert all(mail_domain(domain) == domain for domain in found)
    assert list(found) == sorted(set(found))


@given(spf_results(ANY_DOMAIN), dkim_results(ANY_DOMAIN), DMARC_RESULTS, ARC_RESULTS)
def test_render_is_safe_and_can_be_read(spf, dkim, dmarc, arc):
    written = render(OURS, Authentication(spf=spf, dkim=dkim, dmarc=dmarc, arc=arc))
    assert re.fullmatch(r"mx\.example\.org(?:;\n\t[ -~]+)+", written)
    assert "(" not in written
    read = trusted_results([written], [OURS])
    assert [each.result for each in read.dkim or ()] == [
        each.result for each in dkim if each.result not in (Result.SOFTFAIL, Result.NONE)
    ]
    if read.spf:
        assert (read.spf.result, read.spf.domain) == (spf.result, mail_domain(spf.domain))
    if read.dmarc:
        assert (read.dmarc.result, read.dmarc.domain) == (dmarc.result, mail_domain(dmarc.domain))
    assert claims(written, OURS)


@given(st.lists(FIELDS, max_size=3), st.lists(TEXT, max_size=2))
def test_reading_is_total(fields, ids):
    found = trusted_results([*fields, *(f"{OURS};{field}" for field in fields)], [OURS, *ids])
    for each in (found.spf, found.dmarc, *(found.dkim or ())):
        assert each is None or each.domain == mail_domain(each.domain)
    for field in fields:
        sealed_results(field)
        sealed_results(f"i=1; {OURS};{field}")


@given(FIELDS, st.one_of(st.just(OURS), TEXT))
def test_telling_who_it_is_from_is_total(field, ours):
    claims(field, ours)
    claimed = claimed_authserv_id(field)
    assert claimed is not None or claims(field, ours)


@given(DISGUISES)
@example('mx. \\"example.org\t;' + "()" * 60 + '\\"; none')
@example("mx" + "()" * 60 + ".example.org; none")
@example("mx.example.org" + "\x00" * 600 + "; none")
def test_whatever_is_read_in_full_to_be_ours_is_found(field):
    assert claims(field, OURS) or not claims_in_full(field, OURS)


@given(FIELDS, FIELDS)
def test_ours_is_found_behind_any_comment(inside, behind):
    comment = re.sub(r"[()\\]", "", inside)
    assert claims(f" ({comment}) {OURS} ({comment}); {behind}", OURS)
