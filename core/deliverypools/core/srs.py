"""SRS: the envelope sender of forwarded mail is rewritten to one of ours, and bounces to that find their way back.

The form is that of srslib and postsrsd: `SRS0=HASH=DAY=DOMAIN=LOCAL`, `SRS1=HASH=FIRSTHOP==HASH=DAY=DOMAIN=LOCAL`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import srslib

from deliverypools.core.addresses import normalise_address, normalise_domain, strip_brackets
from deliverypools.core.facts import Origin, RewrittenSender

VALID_DAYS: Final = 21
"""As long as with postsrsd: no server tries to deliver for longer, so that no bounce comes later."""
LONGEST_PATH_OCTETS: Final = 254
"""256 with its angle brackets (RFC 5321 section 4.5.3.1.3)."""
LONGEST_LOCAL_PART_OCTETS: Final = 64
"""RFC 5321 section 4.5.3.1.1."""
_LONGEST_DOMAIN: Final = 253
_LONGEST_READ: Final = 1000
"""Characters. Nothing that we made is longer."""
_HASH_CHARACTERS: Final = 4
_DAY_SECONDS: Final = 86400.0
_DAYS: Final = 1024
"""The day of an address has ten bits."""
_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

_DAY: Final = re.compile(r"[A-Za-z2-7]{2}")
_SRS: Final = re.compile(r"srs[01][-+=]", re.IGNORECASE)
_SOURCE_ROUTE: Final = re.compile(r"(?:@(?:\[[^\]@]*\]|[^@,:\[\]]+),?)+:")
_QUOTED: Final = re.compile(r'"(?P<content>(?:[^"\\]|\\.)*)"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]+"
_DOT_STRING: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_ADDRESS_LITERAL: Final = re.compile(r"\[(?:IPv6:)?[0-9A-Fa-f:.]{2,45}\]", re.IGNORECASE)
_ROUTING: Final = re.compile("[@%!]")
"""What Postfix takes for a route to another host, also inside quotes: resolve_dequoted_address, allow_percent_hack and
swap_bangpath in postconf(5)."""
_NO_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends, and the surrogates that stand for bytes that are not UTF-8."""


class SrsError(ValueError):
    """An address that cannot be reversed."""


class NotSrs(SrsError):  # noqa: N818  (what it is, not what went wrong)
    """No SRS address, or none in our SRS domain."""


class Tampered(SrsError):  # noqa: N818
    """An SRS address that we did not make: its hash is wrong, or it leads to what is no address."""


class Expired(SrsError):  # noqa: N818
    """An SRS address that we made, more than `VALID_DAYS` ago."""


@dataclass(frozen=True, slots=True)
class NotRewritten:
    """Why a sender keeps its address."""

    reason: str


class SenderRewriter:
    """Rewrites senders with the first secret, reverses with any; there is at least one. `clock`: seconds since 1970."""

    def __init__(
        self,
        secrets: Sequence[bytes],
        domain: str,
        clock: Callable[[], float],
        longest_local_part: int = LONGEST_LOCAL_PART_OCTETS,
    ) -> None:
        self._srs = _StrictSrs(secrets, clock)
        self._domain = normalise_domain(domain)
        self._longest_local_part = longest_local_part

    def is_ours(self, address: str) -> bool:
        """Tell whether an address has the form of SRS addresses and lies in our SRS domain; its hash is not looked at.

        Any spelling will do: upper or lower case, quoted or not, with angle brackets or not.
        """
        local_part, domain = _split(address)
        return normalise_domain(domain) == self._domain and _SRS.match(local_part) is not None

    def forward(self, sender: str) -> str | NotRewritten:
        """Return the address in our SRS domain that stands for a sender, as SMTP writes it.

        The null sender stays, and so does an SRS address of ours: mail passes here again after a requeue.
        """
        local_part, domain = _split(sender)
        if not strip_brackets(sender) or self.is_ours(sender):
            return sender
        if not domain.isascii():
            domain = normalise_domain(domain)
        if not _is_address(local_part, domain) or _is_half_quoted(sender):
            return NotRewritten("the sender is no address that SRS could lead back to")
        if _ROUTING.search(local_part):
            return NotRewritten(
                "the sender's local part has @, % or !: Postfix would refuse bounces to its SRS address"
            )
        rewritten, _, _ = self._srs.forward(f"{local_part}@{domain}", self._domain).rpartition("@")
        rewritten = _quoted(rewritten)
        size = len(rewritten.encode())
        if size > self._longest_local_part:
            return NotRewritten(
                f"SRS address would have {size} octets in its local part, {self._longest_local_part} are allowed"
            )
        size += len(f"@{self._domain}")
        if size > LONGEST_PATH_OCTETS:
            return NotRewritten(f"SRS address would have {size} octets, {LONGEST_PATH_OCTETS} are allowed")
        return f"{rewritten}@{self._domain}"

    def reverse(self, address: str) -> str:
        """Return the address that an SRS address of ours stands for, as SMTP writes it; of SRS1, that of the first hop.

        Any spelling will do, as in `is_ours`: Postfix asks in lower case too.

        Raises:
            NotSrs: it is no SRS address, or not in our SRS domain.
            Tampered: it is none that we made.
            Expired: we made it too long ago.
        """
        if not self.is_ours(address):
            raise NotSrs("not an SRS address of ours")
        local_part, domain = _split(address)
        if _NO_TEXT.search(local_part):
            raise Tampered("control characters in an SRS address")
        try:
            original = self._srs.reverse(f"{local_part}@{domain}")
        except srslib.InvalidAddressError:
            raise NotSrs("not an SRS address of ours") from None
        except srslib.InvalidHashError:
            raise Tampered("the hash is wrong") from None
        except srslib.InvalidTimestampError:
            raise Expired(f"made more than {VALID_DAYS} days ago") from None
        local_part, _, domain = original.rpartition("@")
        if not _is_address(local_part, domain):
            raise Tampered("leads to what is no address")
        return f"{_quoted(local_part)}@{domain}"

    def leads_round(self, address: str) -> bool:
        """Tell whether Postfix may read an address as one in our SRS domain, though that is not where it says it goes.

        By default it takes `user%domain`, `domain!user` and `"user@domain"` of a domain of its own, or of none, for
        `user@domain`. Neither a bounce nor a sender of ours looks like that.
        """
        path = _without_route(address)
        local_part, at, domain = path.rpartition("@")
        hidden = (local_part if at and '"' not in domain else path).replace('"', "").replace("\\", "").lower()
        return any(sign in hidden for sign in "@%!") and self._domain in hidden

    def is_in_domain(self, address: str) -> bool:
        """Tell whether an address lies in our SRS domain, whatever its local part."""
        return normalise_domain(_split(address)[1]) == self._domain


def srs_sender_refusal(envelope_sender: str, rewriter: SenderRewriter) -> str | None:
    """Return the SMTP reply that refuses a sender from outside in our SRS domain; None: no objection.

    Only what we rewrote can have such a sender, and come back to us from where it was forwarded. Any other would leave
    again in our name.
    """
    if rewriter.is_in_domain(envelope_sender) or rewriter.leads_round(envelope_sender):
        try:
            rewriter.reverse(envelope_sender)
        except SrsError:
            return "550 5.7.1 Nobody outside sends with a sender in this domain"
    return None


def srs_refusal(recipient: str, envelope_sender: str, rewriter: SenderRewriter) -> str | None:
    """Return the SMTP reply that refuses a recipient, with its enhanced status code (RFC 3463); None: no objection.

    Only bounces may go to an SRS address of ours, and only straight there. Whatever is none is not judged here: it may
    well be a mailbox.
    No code is 5.1.Y: Postfix, which asks by its sender restrictions, would turn that into one about the sender.
    """
    if rewriter.leads_round(recipient):
        return "550 5.7.1 SRS addresses take no routed mail"
    try:
        rewriter.reverse(recipient)
    except NotSrs:
        return None
    except Expired:
        return f"550 5.4.7 The SRS address of the recipient has expired: it took bounces for {VALID_DAYS} days"
    except Tampered:
        return "550 5.7.7 The SRS address of the recipient was not made here, or was changed on its way"
    if strip_brackets(envelope_sender):
        return "550 5.7.1 SRS addresses take bounces only: mail to them needs the null sender"
    return None


@dataclass(frozen=True, slots=True)
class Sender:
    """An envelope sender that is about to leave."""

    original: str
    """Without what SRS of ours has made of it."""
    rewritten: RewrittenSender | None = None
    """What SRS makes of it; None where nothing is rewritten: no SRS, the null sender."""
    has_changed: bool = False
    """Whether it is not the one that the message arrived with: nobody has examined it."""


def sender_of(envelope_sender: str, origin: Origin | None, rewriter: SenderRewriter | None) -> Sender:
    """Return an envelope sender as it was, and as it is to be.

    A sender that an earlier egress pass has rewritten stays so; one that came in rewritten (a forward of ours that came
    back) is taken back first.
    """
    original = original_sender(envelope_sender, rewriter)
    if not original or origin is None:
        return Sender(original)
    if _folded(original) != _folded(original_sender(origin.envelope_sender, rewriter)):
        return Sender(original, has_changed=True)
    if rewriter is None:
        return Sender(original)
    if is_rewritten_already(envelope_sender, origin, rewriter):
        return Sender(original, RewrittenSender(envelope_sender))
    return Sender(original, rewritten_sender(original, rewriter))


def rewritten_sender(envelope_sender: str, rewriter: SenderRewriter) -> RewrittenSender:
    """Return an envelope sender as SRS writes it, or why it cannot be."""
    rewritten = rewriter.forward(envelope_sender)
    if isinstance(rewritten, NotRewritten):
        return RewrittenSender(problem=rewritten.reason)
    return RewrittenSender(rewritten)


def original_sender(envelope_sender: str, rewriter: SenderRewriter | None) -> str:
    """Return the sender behind a rewritten one of ours; any other sender as it is."""
    if rewriter is None or not rewriter.is_ours(envelope_sender):
        return envelope_sender
    try:
        return rewriter.reverse(envelope_sender)
    except SrsError:
        return envelope_sender


def is_rewritten_already(envelope_sender: str, origin: Origin, rewriter: SenderRewriter | None) -> bool:
    """Tell whether we have rewritten the sender of a message since it arrived: a requeue comes by here again."""
    return (
        rewriter is not None
        and rewriter.is_ours(envelope_sender)
        and _folded(envelope_sender) != _folded(origin.envelope_sender)
    )


def _folded(address: str) -> str:
    """Return an address as it is compared; quotes that it does not need do not count."""
    return normalise_address(address).replace('"', "")


class _StrictSrs(srslib.SRS):
    """srslib with a clock that is handed in, and without its holes."""

    def __init__(self, secrets: Sequence[bytes], clock: Callable[[], float]) -> None:
        first, *others = secrets
        super().__init__(first, list(others), VALID_DAYS, _HASH_CHARACTERS)
        self._secrets = tuple(secrets)
        self._time_fn = clock

    def generate_hash(self, s: str, secret: bytes, hash_length: int) -> str:
        """Return the hash, the same for all spellings that Postfix folds into one (casefold(), of ASCII lower case)."""
        return super().generate_hash(s.casefold(), secret, hash_length)

    def check_hash(self, h: str, s: str, addr: str) -> None:
        """Raise InvalidHashError unless the whole hash is there: srslib takes a part of it, be it one character."""
        given = h.lower().encode()
        hashes = (self.generate_hash(s, secret, _HASH_CHARACTERS).lower().encode() for secret in self._secrets)
        if not any(hmac.compare_digest(given, one) for one in hashes):
            raise srslib.InvalidHashError(addr)

    def check_ts(self, ts: str, addr: str) -> None:
        """Raise InvalidTimestampError unless the address was made 0 to 21 days ago: srslib counts one day less.

        One day ahead is allowed: the clock of the host that made it may have passed midnight already.
        """
        if _DAY.fullmatch(ts) is None:
            raise srslib.InvalidHashError(addr)
        high, low = (_DIGITS.index(digit) for digit in ts.upper())
        made = high * len(_DIGITS) + low
        age = (int(self._time_fn() // _DAY_SECONDS) - made) % _DAYS
        if VALID_DAYS < age < _DAYS - 1:
            raise srslib.InvalidTimestampError(addr)


def _without_route(path: str) -> str:
    """Return a path without angle brackets and source route, which RFC 5321 appendix C wants ignored."""
    path = strip_brackets(path)
    route = _SOURCE_ROUTE.match(path)
    return path[route.end() :] if route else path


def _split(address: str) -> tuple[str, str]:
    """Return local part, without its quoting, and domain; both are "" where the address is too long for any."""
    if len(address) > _LONGEST_READ:
        return "", ""
    local_part, _, domain = _without_route(address).rpartition("@")
    if quoted := _QUOTED.fullmatch(local_part):
        local_part = _QUOTED_PAIR.sub(r"\1", quoted["content"])
    return local_part, domain.rstrip(".")


def _is_half_quoted(path: str) -> bool:
    """Tell whether a part of the local part is quoted, or a quote is missing: nobody knows which mailbox is meant."""
    local_part, _, _ = _without_route(path).rpartition("@")
    return _QUOTED.fullmatch(local_part) is None and ('"' in local_part or "\\" in local_part)


def _quoted(local_part: str) -> str:
    """Return a local part as SMTP writes it: quoted where it is no dot-string (RFC 5321 section 4.1.2)."""
    if _DOT_STRING.fullmatch(local_part):
        return local_part
    return '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'


def _is_address(local_part: str, domain: str) -> bool:
    """Tell whether mail can be sent there: a local part without control characters, and a domain or address literal."""
    is_domain = _DOMAIN.fullmatch(domain) or _ADDRESS_LITERAL.fullmatch(domain)
    return bool(local_part and is_domain and len(domain) <= _LONGEST_DOMAIN and not _NO_TEXT.search(local_part))
