"""The Authentication-Results field (RFC 8601): writing ours, telling who a field says it is from, reading trusted ones.

Two readers with opposite duties: what *claims* to be ours is found however it is disguised, what is *trusted* has to
be well-formed, else it says nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Final

from authres import (
    AuthenticationResult,
    AuthenticationResultProperty,
    AuthenticationResultsHeader,
    BaseAuthenticationResult,
)

from deliverypools.core.addresses import normalise_domain
from deliverypools.core.authentication import Authentication, DkimResult, DmarcResult, Result, SpfResult
from deliverypools.core.authentication.dmarc_records import mail_domain

_MOST_OF_AN_ID: Final = 4000
_MOST_ID_CHARACTERS: Final = 255
_MOST_ID_CHARACTERS_WRITTEN: Final = 500
"""With quotes, blanks and unseen characters."""
_MOST_ID_CHARACTERS_OUTSIDE_ASCII: Final = 100
"""IDNA takes microseconds for each."""
_MOST_MARKS_BEFORE_ID_ENDS: Final = 100
"""Quoted strings, escapes and parentheses."""
_MOST_FIELD_CHARACTERS: Final = 3000
_MOST_RESULTS: Final = 50
"""Of one field: authres takes a tenth of a millisecond for each, or more."""
_MOST_FIELDS_LOOKED_AT: Final = 100
_MOST_FIELDS_READ: Final = 5
_MOST_SIGNATURES: Final = 10

_COMMON: Final = frozenset({Result.NONE, Result.PASS, Result.FAIL, Result.TEMPERROR, Result.PERMERROR})
_RESULTS: Final = {
    "spf": frozenset(Result),
    "dkim": _COMMON | {Result.POLICY, Result.NEUTRAL},
    "dmarc": _COMMON,
    "arc": frozenset({Result.NONE, Result.PASS, Result.FAIL}),
}
"""What each method may say: RFC 8601 section 2.7, RFC 7489 section 11.2, RFC 8617 section 10.2."""

_SELECTOR: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/=]{1,40}")
_POLICIES: Final = frozenset({"none", "quarantine", "reject"})

_FOLD: Final = re.compile(r"[\r\n]+")
_INSTANCE: Final = re.compile(r"\s*i\s*=\s*[0-9]{1,2}\s*;", re.IGNORECASE)
_PLAIN_ID: Final = re.compile(r"[ \t\r\n]*+([A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]++)*+)[ \t\r\n]*+;")
"""What nearly all fields begin with. It can be read in one way only."""
_OUTSIDE_COMMENTS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|\\.|[()]', re.DOTALL)
_INSIDE_COMMENTS: Final = re.compile(r"\\.|[()]", re.DOTALL)
"""Where a quotation mark means nothing (RFC 5322 section 3.2.2)."""
_PART: Final = r'(?:[^ \t\r\n\v\f()<>@,;:\\"/\[\]?=]++|"(?:[^"\\]|\\.)*+")++'
"""A value of RFC 2045 section 5.1, token or quoted-string, but for the characters: all but blanks and tspecials."""
_ID: Final = re.compile(rf"{_PART}(?:(?:(?<=\.)\s++|\s++(?=\.)){_PART}){{0,10}}", re.DOTALL)
"""RFC 5322 section 4.4: blanks and comments around the dots of a name."""
_BEFORE_ID: Final = re.compile(r"[ \t\r\n\v\f)<>@,;:/\[\]?=]*+")
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zs", "Zl", "Zp"})
"""Unicode categories that a careless reader drops or takes for a blank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedResults:
    """What others found about a message, one that we trust. None: not reported."""

    spf: SpfResult | None = None
    dkim: tuple[DkimResult, ...] | None = None
    dmarc: DmarcResult | None = None


# Writing


def render(authserv_id: str, found: Authentication) -> str:
    r"""Return the value of our field, folded with "\n\t", in ASCII: what cannot be written as it is is left out.

    There are no comments in it. A message with SPF or DMARC results and no signature says `dkim=none`.
    """
    others = [*_spf_results(found), *_dmarc_results(found), *_arc_results(found)]
    signatures = list(_dkim_results(found.dkim))
    if others and not found.dkim:
        signatures = [_result("dkim", Result.NONE)]
    results: list[BaseAuthenticationResult] = [*others[:1], *signatures, *others[1:]]
    header = AuthenticationResultsHeader(authserv_id, results=results)
    return header.header_value().replace("; ", ";\n\t")


def _result(method: str, result: Result, **properties: str) -> AuthenticationResult:
    """Return one result; a property is named as in `header_d`, an empty one is left out."""
    written = [
        AuthenticationResultProperty(kind, name, value)
        for (kind, _, name), value in ((key.partition("_"), value) for key, value in properties.items())
        if value
    ]
    return AuthenticationResult(method, result=result.value, properties=written)


def _spf_results(found: Authentication) -> Iterator[AuthenticationResult]:
    """Yield the result of SPF, where there is one."""
    spf = found.spf
    if spf.result is not Result.NONE or spf.domain:
        domain = mail_domain(spf.domain)
        yield _result("spf", spf.result, **{"smtp_helo" if spf.identity == "helo" else "smtp_mailfrom": domain})


def _dkim_results(signatures: Sequence[DkimResult]) -> Iterator[AuthenticationResult]:
    """Yield one result for each signature."""
    for signature in signatures[:_MOST_SIGNATURES]:
        if signature.result in _RESULTS["dkim"]:
            # authres loses a quoted value unless it is the last one: header.b, which may hold "/".
            yield _result(
                "dkim",
                signature.result,
                header_d=mail_domain(signature.domain),
                header_s=_matching(_SELECTOR, signature.selector),
                header_b=_matching(_SIGNATURE, signature.signature),
            )


def _dmarc_results(found: Authentication) -> Iterator[AuthenticationResult]:
    """Yield the result of DMARC, where there is one."""
    dmarc = found.dmarc
    if dmarc.result in _RESULTS["dmarc"] and (dmarc.result is not Result.NONE or dmarc.domain):
        policy = dmarc.policy if dmarc.policy in _POLICIES else ""
        yield _result("dmarc", dmarc.result, header_from=mail_domain(dmarc.domain), policy_dmarc=policy)


def _arc_results(found: Authentication) -> Iterator[AuthenticationResult]:
    """Yield the result of ARC, where its chain was looked at."""
    if found.arc.result in _RESULTS["arc"] and found.arc.result is not Result.NONE:
        yield _result("arc", found.arc.result)


def _matching(pattern: re.Pattern[str], text: str) -> str:
    """Return a text that matches as a whole, else ""."""
    return text if pattern.fullmatch(text) else ""


# Telling who a field is from


def claims(value: str, authserv_id: str) -> bool:
    """Tell whether a field claims to be ours, or may do so to any reader (RFC 8601 section 5).

    Comments, quotes, folds, blanks around dots, unseen characters, another script's form of a letter and a missing
    semicolon hide nothing. A field whose authserv-id does not end within 4000 characters, is written in more than 500,
    or does not end before more than 100 quotes, escapes and parentheses claims it: reading takes little time.
    """
    candidates = _candidates(value)
    return candidates is None or normalise_domain(authserv_id) in candidates


def claimed_authserv_id(value: str) -> str | None:
    """Return the authserv-id of a field, in lower case, "" where it has none; None where that cannot be told."""
    candidates = _candidates(value)
    if candidates is None:
        return None
    return candidates[0] if candidates else ""


def _candidates(value: str) -> list[str] | None:
    """Return what readers may take for the authserv-id, the shortest first; None where that cannot be told."""
    plain = _PLAIN_ID.match(value[:_MOST_OF_AN_ID])
    if plain and len(plain[1]) <= _MOST_ID_CHARACTERS:
        return [normalise_domain(plain[1])]
    text, is_whole = _without_comments(value)
    start = _BEFORE_ID.match(text)
    at = start.end() if start else 0
    found = _ID.match(text, at)
    end = found.end() if found else at
    behind, semicolon, _ = text[end:].partition(";")
    # It may go on, or be told apart by a quote, in the part that is not read.
    goes_on = not is_whole and (not semicolon or '"' in behind)
    # An open quote, or an encoded word (RFC 2047) that some readers decode before they look.
    if goes_on or behind.startswith('"') or "=?" in text[: end + len(behind)]:
        return None
    return _readings(found[0]) if found else []


def _readings(identifier: str) -> list[str] | None:
    """Return what readers may make of an authserv-id as it is written; None where there is too much of it."""
    if len(identifier) > _MOST_ID_CHARACTERS_WRITTEN:
        return None
    written = re.sub(r"\\(.)", r"\1", identifier, flags=re.DOTALL).replace('"', "")
    # The blanks around a dot may belong to the name, or end it.
    readings = [*accumulate(map(_seen, written.split()))]
    readings += ["".join(" " if _is_unseen(c) else c for c in written).split(" ")[0]]
    if any(len(reading) > _MOST_ID_CHARACTERS for reading in readings):
        return None
    names = list(dict.fromkeys(unicodedata.normalize("NFKC", reading) for reading in readings))
    if sum(len(name) for name in names if not name.isascii()) > _MOST_ID_CHARACTERS_OUTSIDE_ASCII:
        return None
    return list(dict.fromkeys(map(normalise_domain, names)))


def _without_comments(value: str) -> tuple[str, bool]:
    """Return the start of a field with a blank for each comment, and whether that is all of it.

    What is escaped outside of quotes is taken for itself. A comment that does not end is cut off, and what is behind
    the first 100 marks.
    """
    text = value[:_MOST_OF_AN_ID]
    kept: list[str] = []
    depth = at = marks = 0
    while token := (_INSIDE_COMMENTS if depth else _OUTSIDE_COMMENTS).search(text, at):
        marks += 1
        if marks > _MOST_MARKS_BEFORE_ID_ENDS:
            return "".join(kept), False
        if not depth:
            kept.append(text[at : token.start()])
            kept.append({"(": " ", ")": ")"}.get(token[0], token[0].removeprefix("\\")))
        depth = max(0, depth + {"(": 1, ")": -1}.get(token[0], 0))
        at = token.end()
    kept.append("" if depth else text[at:])
    return "".join(kept), not depth and len(value) <= len(text)


def _seen(text: str) -> str:
    """Return a text without what a reader may overlook."""
    return "".join(c for c in text if not _is_unseen(c))


def _is_unseen(character: str) -> bool:
    """Tell whether a reader may overlook a character."""
    return unicodedata.category(character) in _UNSEEN


# Reading


def trusted_results(values: Iterable[str], trusted_ids: Collection[str]) -> TrustedResults:
    """Return what the fields of trusted authserv-ids report, the topmost field that reports a method first.

    At most 5 fields are read. One that is malformed, longer than 3000 characters or of more than 50 results, and a
    result that RFC 8601 does not know, is not reported.
    """
    trusted = {normalise_domain(each) for each in trusted_ids}
    looked_at = islice(values, _MOST_FIELDS_LOOKED_AT)
    of_trusted = (value for value in looked_at if claimed_authserv_id(value) in trusted)
    found = TrustedResults()
    for value in islice(of_trusted, _MOST_FIELDS_READ):
        header = _parsed(value)
        if header and normalise_domain(header.authserv_id) in trusted:
            reported = _reported(header)
            found = TrustedResults(
                spf=found.spf or reported.spf,
                dkim=reported.dkim if found.dkim is None else found.dkim,
                dmarc=found.dmarc or reported.dmarc,
            )
    return found


def sealed_results(value: str) -> TrustedResults:
    """Return what an ARC-Authentication-Results field ("i=1; mx.example.org; ...") reports (RFC 8617 section 4.1.1).

    Whether its sealer is trusted and its seal holds is for the caller to know.
    """
    instance = _INSTANCE.match(value[:_MOST_OF_AN_ID])
    header = _parsed(value[instance.end() :]) if instance else None
    return _reported(header) if header else TrustedResults()


def _parsed(value: str) -> AuthenticationResultsHeader | None:
    """Return a field as authres reads it; None for what is malformed, or too much."""
    if len(value) > _MOST_FIELD_CHARACTERS:
        return None
    # Comments in UTF-8 and a last semicolon are common, and authres refuses them.
    text = "".join(c if c.isascii() else "?" for c in _FOLD.sub(" ", value)).rstrip("; \t")
    # As many as there may be: a semicolon in a comment or in quotes is one more.
    if text.count(";") > _MOST_RESULTS:
        return None
    try:
        return AuthenticationResultsHeader.parse_value(text)
    except Exception:  # noqa: BLE001  (it raises its own errors, RecursionError, and what else a hostile field breaks)
        return None


def _reported(header: AuthenticationResultsHeader) -> TrustedResults:
    """Return the results of a field."""
    found = [each for each in header.results if isinstance(each, AuthenticationResult)]
    known = [each for each in found if each.result in _RESULTS.get(each.method, ())]
    spf = [_read_spf(each) for each in known if each.method == "spf"]
    dkim = [_read_dkim(each) for each in known if each.method == "dkim"]
    dmarc = [_read_dmarc(each) for each in known if each.method == "dmarc"]
    # That of the HELO name may stand beside the one that counts.
    spf.sort(key=lambda each: each.identity == "helo")
    signatures = tuple(each for each in dkim if each.result is not Result.NONE)[:_MOST_SIGNATURES]
    return TrustedResults(
        spf=spf[0] if spf else None, dkim=signatures if dkim else None, dmarc=dmarc[0] if dmarc else None
    )


def _read_spf(found: AuthenticationResult) -> SpfResult:
    """Return a result of SPF."""
    mailfrom, helo = _property(found, "smtp.mailfrom"), _property(found, "smtp.helo")
    is_of_helo = bool(helo) and not mailfrom
    domain = mail_domain((helo if is_of_helo else mailfrom).rpartition("@")[2])
    return SpfResult(result=Result(found.result), domain=domain, identity="helo" if is_of_helo else "mailfrom")


def _read_dkim(found: AuthenticationResult) -> DkimResult:
    """Return a result of DKIM; where only i= is given, its domain stands for d=, which is the same or above."""
    signer = _property(found, "header.d") or _property(found, "header.i").rpartition("@")[2]
    return DkimResult(
        result=Result(found.result),
        domain=mail_domain(signer),
        selector=_matching(_SELECTOR, _property(found, "header.s")),
        signature=_matching(_SIGNATURE, _property(found, "header.b")),
    )


def _read_dmarc(found: AuthenticationResult) -> DmarcResult:
    """Return a result of DMARC."""
    policy = _property(found, "policy.dmarc").lower()
    return DmarcResult(
        result=Result(found.result),
        domain=mail_domain(_property(found, "header.from").rpartition("@")[2]),
        policy=policy if policy in _POLICIES else "",
    )


def _property(found: AuthenticationResult, name: str) -> str:
    """Return the value of a property, "" where it is not there."""
    values = (each.value for each in found.properties if f"{each.type}.{each.name}" == name)
    return next((value for value in values if value), "")
