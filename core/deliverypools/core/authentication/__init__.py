"""Was the sender of a message shown to be legitimate? The results of SPF, DKIM, DMARC and ARC, and what they add up to.

Results are those of RFC 8601 section 2.7. `temperror` is unknown, never "no".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from deliverypools.core.addresses import domain_of, is_same_or_subdomain, normalise_address, normalise_domain
from deliverypools.core.facts import NOT_ASKED, Answer, Finding, Origin, printable


class Result(StrEnum):
    """The result of one method (RFC 8601 section 2.7)."""

    PASS = "pass"  # noqa: S105  (no password)
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    """Could not be told now: DNS did not answer."""
    PERMERROR = "permerror"
    POLICY = "policy"
    """It holds, but is not accepted here: a short key, SHA-1, a body length (l=)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpfResult:
    """SPF (RFC 7208) of the envelope sender, of the HELO name where that is null."""

    result: Result
    domain: str = ""
    """The domain that was checked, a lower-case A-label."""
    identity: str = "mailfrom"
    """`mailfrom` or `helo`."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimResult:
    """One DKIM signature (RFC 6376, RFC 8301, RFC 8463)."""

    result: Result
    domain: str = ""
    """d=, a lower-case A-label."""
    selector: str = ""
    signature: str = ""
    """The first characters of b=, to tell signatures of one domain apart (RFC 6008)."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DmarcResult:
    """DMARC (RFC 9989) of the author domain. NONE: that domain publishes no record."""

    result: Result
    domain: str = ""
    """The domain of From."""
    policy: str = ""
    """What the record asks for: none, quarantine, reject; "" without a record."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArcResult:
    """The ARC chain (RFC 8617), looked at only where its last sealer is one that the operator trusts."""

    result: Result
    sealer: str = ""
    """d= of the last seal."""
    vouches: str = ""
    """What a trusted sealer says it saw on arrival, where that shows the sender to be legitimate: "dmarc=pass"."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """All that was found about one message."""

    spf: SpfResult = SpfResult(result=Result.NONE)
    dkim: tuple[DkimResult, ...] = ()
    dmarc: DmarcResult = DmarcResult(result=Result.NONE)
    arc: ArcResult = ArcResult(result=Result.NONE)
    authenticated: Finding = NOT_ASKED
    """What it adds up to; see `judge_authentication` in `dmarc`."""
    envelope: Finding = NOT_ASKED
    """Whether the envelope sender itself is legitimate: only such a one is rewritten. See `judge_envelope`."""

    @property
    def dkim_result(self) -> Result:
        """The best result of all signatures; NONE without any."""
        results = {signature.result for signature in self.dkim}
        return next((result for result in _BEST_FIRST if result in results), Result.NONE)

    @property
    def summary(self) -> str:
        """The results in a line: "spf=pass dkim=none dmarc=none"."""
        arc = f" arc={self.arc.result}" if self.arc.result is not Result.NONE else ""
        return f"spf={self.spf.result} dkim={self.dkim_result} dmarc={self.dmarc.result}{arc}"


def with_authentication(origin: Origin, found: Authentication) -> Origin:
    """Return what is known of a message, with what SPF, DKIM and DMARC say."""
    finding, envelope = found.authenticated, found.envelope
    return replace(
        origin,
        authenticated=Finding(finding.answer, printable(finding.evidence)),
        envelope_authenticated=Finding(envelope.answer, printable(envelope.evidence)),
        is_envelope_backed=envelope.answer in (Answer.YES, Answer.UNKNOWN)
        or _is_signed_by(domain_of(normalise_address(origin.envelope_sender)), found.dkim),
        authentication_results=found.summary if finding.answer is not Answer.NOT_ASKED else "",
    )


def _is_signed_by(domain: str, dkim: Sequence[DkimResult]) -> bool:
    """Tell whether a domain, or one above it, has signed."""
    passed = (each.domain for each in dkim if each.result is Result.PASS and each.domain)
    return bool(domain) and any(is_same_or_subdomain(domain, normalise_domain(each)) for each in passed)


_BEST_FIRST = (
    Result.PASS,
    Result.TEMPERROR,
    Result.POLICY,
    Result.NEUTRAL,
    Result.FAIL,
    Result.SOFTFAIL,
    Result.PERMERROR,
    Result.NONE,
)
