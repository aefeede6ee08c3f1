"""DMARC (RFC 9989): is the author domain of a message authenticated? And what all methods together come to.

Nothing is looked up here: `names_to_ask` says which TXT records are needed, the answers are handed to `evaluate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deliverypools.core.addresses import is_same_or_subdomain
from deliverypools.core.authentication import ArcResult, DkimResult, DmarcResult, Result, SpfResult
from deliverypools.core.authentication.dmarc_records import (
    DmarcRecord,
    Records,
    known_record,
    mail_domain,
    policy_domain,
    possible_walks,
    tree_walk_names,
)
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, printable

_MOST_SIGNATURES: Final = 10
_MAY_HOLD: Final = (Result.PASS, Result.TEMPERROR)


@dataclass(frozen=True, slots=True)
class _Identifier:
    """A domain that SPF or DKIM authenticated, or may yet (section 3.2.1)."""

    method: str
    domain: str
    """ "" where not even that could be told: it may be any."""
    is_sure: bool

    def __str__(self) -> str:
        return f"{self.method} {self.domain}".rstrip()


def names_to_ask(
    author_domain: str, spf: SpfResult, dkim: Sequence[DkimResult], records: Records | None = None
) -> tuple[str, ...]:
    """Return the names whose TXT records `evaluate` needs: at most 8 for each domain, of at most 12 domains.

    Given the answers for the names of the author domain (`tree_walk_names`) it leaves out domains that cannot be
    aligned with it, which are most.
    """
    author_domain = mail_domain(author_domain)
    worlds = possible_walks((author_domain,), records or {})
    organizational_domains = {walk.organizational_domain for (walk,) in worlds}
    names = dict.fromkeys(tree_walk_names(author_domain))
    for identifier in _identifiers(spf, dkim):
        if any(is_same_or_subdomain(identifier.domain, each) for each in organizational_domains):
            names.update(dict.fromkeys(tree_walk_names(identifier.domain)))
    return tuple(names)


def evaluate(
    author_domains: Sequence[str],
    records: Records,
    spf: SpfResult,
    dkim: Sequence[DkimResult],
    author_domain_exists: Answer = Answer.UNKNOWN,
) -> DmarcResult:
    """Return the result of DMARC (sections 4.10 and 5.3).

    NONE: no record applies. PERMERROR: the message has no author domain, or several. TEMPERROR: a look-up without an
    answer, of SPF, DKIM or here, may change the result. The reason of a pass names what is aligned.
    `author_domain_exists` chooses between sp= and np=; a domain not known to be absent exists.
    """
    domains = {mail_domain(domain) for domain in author_domains}
    author_domain = domains.pop() if len(domains) == 1 else ""
    if not author_domain:
        return DmarcResult(result=Result.PERMERROR, reason="From does not name one domain")
    record_domain, is_sure = policy_domain(author_domain, records)
    if not is_sure:
        return DmarcResult(result=Result.TEMPERROR, domain=author_domain, reason="DNS did not say which record applies")
    record = known_record(record_domain, records) if record_domain else None
    if not record:
        return DmarcResult(result=Result.NONE, domain=author_domain, reason="no record")
    policy = record.policy
    if record_domain != author_domain:
        policy = record.absent_policy if author_domain_exists is Answer.NO else record.subdomain_policy
    if not policy:
        return DmarcResult(result=Result.NONE, domain=author_domain, reason="the record has no valid policy")
    result, reason = _alignment(author_domain, record, records, list(_identifiers(spf, dkim)))
    return DmarcResult(result=result, domain=author_domain, policy=policy, reason=reason)


def _identifiers(spf: SpfResult, dkim: Sequence[DkimResult]) -> Iterator[_Identifier]:
    """Yield each domain that passed, and then each that could not be told, once.

    SPF of the HELO name counts as that of the envelope sender where that is null (section 3.2.4, RFC 7208 section 2.4).
    """
    results = [("DKIM", signature.result, signature.domain) for signature in dkim] + [("SPF", spf.result, spf.domain)]
    found = [
        _Identifier(method, domain, result is Result.PASS)
        for wanted in _MAY_HOLD
        for method, result, written in results
        if result is wanted and ((domain := mail_domain(written)) or (result is Result.TEMPERROR and not written))
    ]
    signatures = [each for each in found if each.method == "DKIM"][:_MOST_SIGNATURES]
    yield from dict.fromkeys([*signatures, *(each for each in found if each.method == "SPF")])


def _alignment(
    author_domain: str, record: DmarcRecord, records: Records, identifiers: Sequence[_Identifier]
) -> tuple[Result, str]:
    """Return what the record makes of the authenticated domains, with the reason (section 5.3.5)."""
    unsure = ""
    for identifier in identifiers:
        strict = record.is_strict_about_dkim if identifier.method == "DKIM" else record.is_strict_about_spf
        aligned = _is_aligned(author_domain, identifier.domain, records, strict=strict)
        if aligned is Answer.YES and identifier.is_sure:
            return Result.PASS, str(identifier)
        if aligned is not Answer.NO:
            unsure = unsure or f"DNS did not tell about {identifier}"
    return (Result.TEMPERROR, unsure) if unsure else (Result.FAIL, "nothing aligned")


def _is_aligned(author_domain: str, domain: str, records: Records, *, strict: bool) -> Answer:
    """Tell whether an authenticated domain is aligned with the author domain (section 4.10.2)."""
    if domain == author_domain:
        return Answer.YES
    if not domain:
        return Answer.UNKNOWN
    if strict:
        return Answer.NO
    worlds = possible_walks((author_domain, domain), records)
    outcomes = {author.organizational_domain == other.organizational_domain for author, other in worlds}
    if len(outcomes) > 1:
        return Answer.UNKNOWN
    return Answer.YES if outcomes.pop() else Answer.NO


def judge_authentication(
    spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult, arc: ArcResult | None = None
) -> Finding:
    """Tell whether the sender was shown to be legitimate (rules.md, "Forwarded mail").

    DMARC pass; or, where no record applies, SPF pass of the envelope sender or a DKIM pass of the author domain or a
    parent of it; or a trusted ARC sealer vouches, unless From does not name one author (PERMERROR): nobody can tell
    whom the sealer vouches for. What authenticated the very author domain passes under any record: that holds while
    DMARC cannot be told. UNKNOWN where a missing answer may still make it YES, NO where nothing can.
    """
    proof = _proof(spf, dkim, dmarc, arc)
    if proof:
        return Finding(Answer.YES, printable(proof))
    missing = list(_missing(spf, dkim, dmarc, arc))
    if missing:
        return Finding(Answer.UNKNOWN, printable(f"DNS did not tell about {', '.join(missing)}"))
    return Finding(Answer.NO, printable(_disproof(spf, dkim, dmarc)))


def _proof(spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult, arc: ArcResult | None) -> str:
    """Return what shows the sender to be legitimate, "" where nothing does."""
    if dmarc.result is Result.PASS:
        return f"DMARC pass of {dmarc.domain}" + (f" ({dmarc.reason})" if dmarc.reason else "")
    if arc and _vouches(arc, dmarc):
        return f"ARC seal of {arc.sealer} ({arc.vouches})"
    passed = [each for each in _identifiers(spf, dkim) if each.is_sure]
    exact = next((each for each in passed if each.domain == dmarc.domain), None)
    if dmarc.result is Result.TEMPERROR and exact:
        return f"{exact.method} pass of {exact.domain}, whatever its DMARC record says"
    if dmarc.result is not Result.NONE:
        return ""
    found = next((each for each in passed if _counts_without_record(each, spf, dmarc)), None)
    return f"{found.method} pass of {found.domain}, no DMARC record" if found else ""


def _counts_without_record(identifier: _Identifier, spf: SpfResult, dmarc: DmarcResult) -> bool:
    """Tell whether a domain shows the sender to be legitimate where no DMARC record applies."""
    if identifier.method == "SPF" and spf.identity == "mailfrom":
        return True
    return not identifier.domain or (bool(dmarc.domain) and is_same_or_subdomain(dmarc.domain, identifier.domain))


def _missing(spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult, arc: ArcResult | None) -> Iterator[str]:
    """Yield what could not be told and may yet show the sender to be legitimate, given that nothing does so far."""
    if arc and arc.result is Result.TEMPERROR and dmarc.result is not Result.PERMERROR:
        yield f"ARC of {arc.sealer}"
    identifiers = list(_identifiers(spf, dkim))
    if dmarc.result is Result.TEMPERROR and any(_may_help(each, spf, dmarc) for each in identifiers):
        yield f"DMARC of {dmarc.domain}"
    if dmarc.result is Result.NONE:
        unsure = (each for each in identifiers if not each.is_sure)
        yield from (str(each) for each in unsure if _counts_without_record(each, spf, dmarc))


def _may_help(identifier: _Identifier, spf: SpfResult, dmarc: DmarcResult) -> bool:
    """Tell whether a domain may count once DMARC is known: aligned, or enough where there is no record."""
    return _counts_without_record(identifier, spf, dmarc) or _may_be_aligned(identifier, dmarc)


def _may_be_aligned(identifier: _Identifier, dmarc: DmarcResult) -> bool:
    """Tell whether a domain may be aligned with that of DMARC: never where the top-level domains differ."""
    if not identifier.domain or not dmarc.domain:
        return True
    return identifier.domain.rpartition(".")[2] == dmarc.domain.rpartition(".")[2]


def _disproof(spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult) -> str:
    """Return why nothing shows the sender to be legitimate."""
    if dmarc.result is not Result.NONE:
        parts = (f"DMARC {dmarc.result}", dmarc.domain and f"of {dmarc.domain}", dmarc.reason and f"({dmarc.reason})")
        return " ".join(filter(None, parts))
    of_signatures = "no DKIM signature of the author domain" if dkim else "no DKIM signature"
    return f"no DMARC record, SPF {spf.result}, {of_signatures}"


def judge_envelope(
    envelope_domain: str, spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult, arc: ArcResult | None = None
) -> Finding:
    """Tell whether the envelope sender itself is legitimate: behind a From of his own a stranger may write any.

    YES: SPF pass of MAIL FROM, of that very domain; or the author is authenticated, by a trusted ARC sealer too, and
    it is the author domain, lies below that, or is the d= of a DKIM pass at or above the author domain. UNKNOWN where
    a missing answer may still make it YES, NO where nothing can, NOT_ASKED for a null sender ("").
    """
    if not envelope_domain:
        return NOT_ASKED
    domain = mail_domain(envelope_domain)
    if not domain:
        return Finding(Answer.NO, "the envelope sender has no domain name")
    is_vouched_for = _vouches(arc, dmarc)
    proof = _envelope_proof(domain, spf, dkim, dmarc, is_vouched_for=is_vouched_for)
    if proof:
        return Finding(Answer.YES, printable(proof))
    if _envelope_proof(domain, *_at_best(domain, spf, dkim, dmarc), is_vouched_for=is_vouched_for):
        results = [("SPF", spf.result), *(("DKIM", each.result) for each in dkim), ("DMARC", dmarc.result)]
        missing = dict.fromkeys(method for method, result in results if result is Result.TEMPERROR)
        evidence = f"DNS did not tell about {', '.join(missing)} (envelope sender of {domain})"
        return Finding(Answer.UNKNOWN, printable(evidence))
    return Finding(Answer.NO, printable(f"neither an SPF pass nor an authenticated author of {domain}"))


def _vouches(arc: ArcResult | None, dmarc: DmarcResult) -> bool:
    """Tell whether a trusted sealer vouches for the author; where From names several, nobody can tell for whom."""
    return arc is not None and arc.result is Result.PASS and bool(arc.vouches) and dmarc.result is not Result.PERMERROR


def _envelope_proof(
    domain: str, spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult, *, is_vouched_for: bool
) -> str:
    """Return what shows the domain of an envelope sender to be legitimate, "" where nothing does."""
    if spf.result is Result.PASS and spf.identity == "mailfrom" and mail_domain(spf.domain) == domain:
        return f"SPF pass of {domain}"
    author = mail_domain(dmarc.domain)
    passed = {mail_domain(each.domain) for each in dkim if each.result is Result.PASS}
    signers = {signer for signer in passed if signer and is_same_or_subdomain(author, signer)}
    # As in `judge_authentication`; there SPF of another domain may be enough, here it says nothing.
    is_authenticated = (
        is_vouched_for
        or dmarc.result is Result.PASS
        or (dmarc.result is Result.NONE and bool(signers))
        or (dmarc.result is Result.TEMPERROR and author in signers)
    )
    if not author or not is_authenticated:
        return ""
    if domain == author:
        return f"the authenticated author is of {author}"
    # A top-level domain is not one owner's.
    if "." in author and is_same_or_subdomain(domain, author):
        return f"{domain} is below {author}, the domain of the authenticated author"
    return f"DKIM pass of {domain}, above the authenticated author's {author}" if domain in signers else ""


def _at_best(
    domain: str, spf: SpfResult, dkim: Sequence[DkimResult], dmarc: DmarcResult
) -> tuple[SpfResult, list[DkimResult], DmarcResult]:
    """Return the results as the missing answers may make them, at best for a domain."""
    author = dmarc.domain or domain
    best_dmarc = dmarc
    if dmarc.result is Result.TEMPERROR and any(_may_be_aligned(each, dmarc) for each in _identifiers(spf, dkim)):
        best_dmarc = replace(dmarc, result=Result.PASS, domain=author)
    best_spf = spf
    if spf.result is Result.TEMPERROR:
        best_spf = replace(spf, result=Result.PASS, domain=spf.domain or domain)
    # A signature whose domain could not be told may be anybody's.
    best_dkim = [
        replace(each, result=Result.PASS, domain=signer) if each.result is Result.TEMPERROR else each
        for each in dkim
        for signer in ([each.domain] if each.domain else [domain, author])
    ]
    return best_spf, best_dkim, best_dmarc
