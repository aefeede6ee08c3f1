"""The words of notices, in readable form: who writes which, and what it means.

A notice without machine-readable parts is known by how its text begins. Texts are compared as `opening_of` gives them:
one line, lower case. To add a form, add a line here and a message to its test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from deliverypools.core.message_kind import Kind

_QUOTED_LINE = re.compile(r"(?m)^[ \t]*>[^\n]*$")
_FAR: Final = 1500
"""So far into a text a phrase is looked for: an introduction in three languages comes before it."""
_AT_ONCE: Final = 100
"""So far into a text a phrase may begin to be its first words: behind a host's name, a greeting."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the text of some mail server begins."""

    name: str
    kind: Kind
    pattern: re.Pattern[str]
    is_vague: bool
    """Whether a person may begin so, who writes about a bounce: it is no mail server's very words."""


def _form(name: str, kind: Kind, *phrases: str) -> Form:
    """Make a form of regular expressions, any of which tells it; a gap in them is bounded."""
    return Form(name, kind, re.compile("|".join(phrases)), is_vague=name.startswith("a "))


DELAYS: Final = (
    _form(
        "Exim",
        Kind.DELAY,
        r"this message was created automatically by mail delivery software.{0,120}has not (?:yet )?been delivered",
    ),
    _form(
        "Postfix",
        Kind.DELAY,
        r"this is the .{1,300}this is a warning only",
        r"your message could not be delivered for more than",
    ),
    _form("sendmail", Kind.DELAY, r"this is a warning message only", r"addresses had transient non-fatal errors"),
    _form(
        "Gmail",
        Kind.DELAY,
        r"delivery to the following recipients? (?:has|have) been delayed",
        r"temporary problem (?:while )?delivering your message",
    ),
    _form(
        "Exchange",
        Kind.DELAY,
        r"delivery to these recipients or (?:distribution lists|groups) (?:has been|is) delayed",
        r"this message hasn't been delivered yet",
        r"delivery to the following recipients has been delayed",
        r"die zustellung an folgende empfänger ist verzögert",
    ),
    _form("Domino", Kind.DELAY, r"your message .{0,300}has not yet been delivered to"),
    _form(
        "a delay",
        Kind.DELAY,
        r"message has not yet been delivered",
        r"will (?:keep trying|continue (?:to try|trying)|be retried)",
        r"delivery attempts will continue",
        r"no action is required on your part",
        r"konnte bisher nicht zugestellt werden",
        r"n'a pas encore (?:pu être|été) (?:remis|délivré|distribué)",
        r"todavía no se ha (?:podido entregar|entregado)",
    ),
)
SUCCESSES: Final = (
    _form(
        "a delivery",
        Kind.DELIVERY,
        r"your message (?:was|has been) successfully delivered",
        r"successfully delivered to the (?:following|destination)",
        r"successfully relayed to the following",
        r"was successfully delivered to its destination",
        r"your message has been delivered to the following recipients",
    ),
)
FAILURES: Final = (
    _form("qmail", Kind.NON_DELIVERY, r"hi\. this is the .{1,300}i'm afraid i wasn't able to deliver"),
    _form(
        "Exim",
        Kind.NON_DELIVERY,
        r"this message was created automatically by (?:the )?mail delivery (?:software|system)",
        r"a message that you (?:have )?sent (?:could not be|contained|was not)",
        r"a message (?:that you sent )?with the following subject could not be",
    ),
    _form(
        "Postfix",
        Kind.NON_DELIVERY,
        r"this is the (?:mail system|postfix program|.{1,40} program) at host",
        r"i'm sorry to have to inform you that (?:your|the) message could not",
    ),
    _form(
        "sendmail",
        Kind.NON_DELIVERY,
        r"the original message was received at .{1,300}"
        r"the following addresses (?:had permanent (?:fatal|delivery) errors|have delivery notifications)",
        r"addresses had (?:delivery problems|permanent fatal errors)",
        r"----- transcript of session follows -----",
    ),
    _form(
        "OpenSMTPD",
        Kind.NON_DELIVERY,
        r"this is the mailer-daemon, please do not reply.{0,200}(?:error|unable to deliver)",
    ),
    _form(
        "Gmail",
        Kind.NON_DELIVERY,
        r"delivery to the following recipients? failed",
        r"your message wasn't delivered to",
        r"\*\* (?:address not found|message (?:blocked|not delivered|rejected)|recipient inbox full) \*\*",
    ),
    _form(
        "Exchange",
        Kind.NON_DELIVERY,
        r"your message .{0,700}did not reach (?:the following recipient|some or all)",
        r"delivery has failed to these recipients",
        r"your message (?:to .{1,200})?couldn't be delivered",
        r"delivery to the following recipients (?:has )?failed",
        r"delivery to the following recipient failed permanently",
        r"fehler bei der nachrichtenzustellung",
        r"ihre nachricht .{0,700}hat einige oder alle empfänger nicht erreicht",
        r"(?:échec de la remise|votre message .{0,700}n'est pas parvenu)",
        r"(?:error en la entrega|no se pudo (?:realizar la )?entrega)",
        r"det gick inte att leverera",
        r"falha na entrega (?:a|para) (?:estes|estas|esses|essas|o)",
        r"non è stato possibile recapitare",
        r"kan niet worden bezorgd",
    ),
    _form("Domino", Kind.NON_DELIVERY, r"your message .{0,700}was not delivered to"),
    _form(
        "GroupWise",
        Kind.NON_DELIVERY,
        r"the message that you sent was undeliverable to the following",
    ),
    _form(
        "XWall",
        Kind.NON_DELIVERY,
        r"your message .{0,700}has encountered a delivery problem",
    ),
    _form(
        "AOL",
        Kind.NON_DELIVERY,
        r"your mail to the following recipients could not be delivered",
        r"the user\(s\) account is (?:temporarily )?over quota",
    ),
    _form(
        "Yahoo",
        Kind.NON_DELIVERY,
        r"(?:sorry, )?(?:we were|i was)(?:n't| not| un)? ?able to deliver your (?:message|mail)",
        r"message from yahoo\.[a-z.]{2,20} unable to deliver",
    ),
    _form(
        "IMail", Kind.NON_DELIVERY, r"user mailbox exceeds allowed size", r"undeliverable to .{1,200}original message"
    ),
    _form("MDaemon", Kind.NON_DELIVERY, r"the following (?:data may|addresses did not receive a copy)"),
    _form("amavis", Kind.NON_DELIVERY, r"(?:your message|a message).{1,400}was blocked by our (?:spam|bulk|virus)"),
    _form("Courier", Kind.NON_DELIVERY, r"this is a delivery status notification from .{1,200}(?:failed|undeliver)"),
    _form(
        "a refusal",
        Kind.NON_DELIVERY,
        r"delivery of (?:e-?mail|(?:your|the|this) (?:message|e-?mail)) to .{1,250}(?:has )?failed",
        r"(?:message|e-?mail|mail) (?:that you sent )?(?:could not|cannot|can't|couldn't) be delivered",
        r"(?:your |this )(?:message|e-?mail|mail) (?:was|has) (?:not been|not) delivered",
        r"that's not a valid user",
        r"returned (?:to you|to sender)",
        r"(?:user|recipient|mailbox|address) (?:is )?(?:unknown|not found|does not exist)",
        r"undeliverable (?:mail|message)",
    ),
    _form(
        "a refusal, in another language",
        Kind.NON_DELIVERY,
        r"su mensaje no (?:pudo|ha podido) ser entregado",
        r"no se ha podido entregar (?:su|el|este) mensaje",
        r"sua mensagem não (?:pôde|pode) ser (?:entregue|enviada)",
        r"(?:ihre|die|eine|diese) (?:nachricht|e-?mail|mail) (?:.{0,200})?konnte nicht (?:.{0,60})?zugestellt werden",
        r"(?:votre|le|ce) (?:message|courriel|mail) n'a (?:pas )?pu être (?:remis|délivré|distribué|envoyé)",
        r"il (?:suo |tuo )?messaggio non (?:è stato|può essere) (?:recapitato|consegnato)",
        r"uw bericht (?:kon|kan) niet (?:worden )?(?:afgeleverd|bezorgd)",
        r"(?:twoja|ta) wiadomość nie (?:mogła|może|została) (?:zostać|być)? ?dostarczon",
        r"wiadomość .{0,200}nie (?:mogła zostać|została) dostarczona",
        r"ditt meddelande (?:kunde|gick) inte (?:att )?(?:levereras|leverera)",
        r"сообщение .{0,200}не (?:может быть|было|удалось) достав",
        r"次の(?:宛先|あて先)",
        r"メッセージを(?:配信|送信)できません",
    ),
)
SUBJECTS: Final = (
    # Only beside a daemon's address or a null reverse-path.
    _form(
        "", Kind.DELAY, r"^(?:delivery status notification \(delay|warning: (?:message|could not send)|delayed mail)"
    ),
    _form(
        "",
        Kind.NON_DELIVERY,
        r"^(?:\[[^\]]{1,60}\] )?(?:undeliver(?:ed|able)\b|non[- ]delivery (?:report|notif)|failure notice$|"
        r"returned mail\b|delivery status notification \(failure|mail delivery (?:failed|failure|problem)|"
        r"delivery failure\b|"
        r"delivery (?:notification: )?(?:has )?failed|message status - undeliverable|mail could not be delivered|"
        r"unzustellbar|nicht zustellbar|non remis|olevererbart|onbestelbaar|não entregue|no se puede entregar|"
        r"non recapitabile|niedostarczon|nedoručiteln|ikke leveret|kunne ikke leveres|toimittamaton|"
        r"message you sent blocked|\*\*message you sent blocked)",
    ),
)

NOTICES_TO_POSTMASTER: Final = re.compile(r"postfix smtp server: |your mailbox is (?:almost|nearly)")
"""Subjects of what mail systems tell the postmaster or a mailbox's owner, about no message that failed."""

FAILURE_WORDS: Final = re.compile(
    r"undeliver|not (?:be |been |yet )?(?:deliver|reach|receiv)|unable to|fail|return|unknown|reject|refus|error|full"
    r"|quota"
)
"""One of them has to be there where loose forms are looked for."""
CHALLENGES: Final = re.compile(
    r"(?:to my|personal|boxbe) guest list"
    r"|(?:account|mailbox|address) is protected by (?!law)"
    r"|requires? (?:sender )?(?:confirmation|verification)\.? (?:please )?(?:visit|click|reply|follow)"
    r"|(?:confirm|verify|prove) (?:that )?you(?:'re| are) (?:not )?a (?:spammer|robot|machine|real|human|legitimate)"
    r"|(?:reply to|answer) this (?:message|e-?mail) to (?:confirm|release|deliver|have your)"
    r"|(?:added to|on) (?:the recipient's|my|our) (?:allowed|approved|white) ?(?:senders? )?list"
    r"|you(?:r address| are|'re) not (?:yet )?(?:on|in) (?:the|my|our) (?:list of )?(?:approved|allowed|known) senders"
    r"|your (?:message|mail|e-?mail) (?:is being|has been|was) held (?:until|pending|because i)"
)
"""Words that ask the sender to confirm."""
CHALLENGE_SUBJECTS: Final = re.compile(
    # Not "confirm your address": so subscriptions begin.
    r"^(?:please confirm (?:your (?:message|mail|e-?mail)$|that you sent)"
    r"|(?:sender|e-?mail) verification (?:required|needed)|your e-?mail requires verification)"
)
AUTOMATIC_SUBJECTS: Final = re.compile(
    r"^\W*(?:auto(?:matic)?[- ]?(?:reply|response|responder|answer)|out of (?:the )?office(?: auto-?reply| reply)?"
    r"|vacation (?:reply|message)|abwesenheits(?:notiz|nachricht)|abwesend|automatische (?:antwort|e-?mail-antwort)"
    r"|réponse automatique|absence du bureau|respuesta automática|fuera de (?:la )?oficina|risposta automatica"
    r"|resposta automática|automatisch antwoord|afwezig|autosvar|automatiskt svar|automaattinen vastaus"
    r"|automatyczna odpowiedź|automatick[áý] odpověď|автоответ|自動(?:応答|返信)|自动答复)\W*(?:[:\uff1a\]]|$)"
    r"|[(\[](?:automatic|auto)[- ]?(?:reply|response|automatyczna)[)\]]"
    # Domino.
    r"|^auto: .{1,120}\bout of the office"
    r"|\bautomatiska atbilde:|^atvaļinājums "
)
AUTOMATIC_REPLIES: Final = re.compile(
    r"i (?:am|will be|'m) (?:currently )?(?:out of (?:the )?office|on (?:vacation|holiday|leave)|away)"
    r"|this is an auto(?:matic|mated)(?:ally generated)? (?:reply|response)"
)


def opening_of(text: str) -> str:
    """Return how a text begins: one line, lower case, without lines that are quoted."""
    return " ".join(_QUOTED_LINE.sub("", text).split())[:_FAR].lower()


def form_of(opening: str, forms: tuple[Form, ...], *, is_at_once: bool = False) -> Form | None:
    """Return the form whose words come first in a text; of two that begin alike, the one that stands first in `forms`.

    `is_at_once`: only if the text begins with it, give or take a few words.
    """
    limit = _AT_ONCE if is_at_once else _FAR
    best: Form | None = None
    for form in forms:
        found = form.pattern.search(opening)
        if found and found.start() < limit:
            best, limit = form, found.start()
    return best


_SUBJECTS_OF_PROGRAMS: Final = re.compile(
    r"(?:undelivered mail returned to sender|(?:\[postmaster\] )?email delivery failure|mail system error - returned"
    r" mail|delivery notification: delivery has failed)$|(?:returned mail|undeliverable(?: mail)?|unzustellbar): "
    r"|warning: message delayed "
)


def is_whole_subject(subject: str) -> bool:
    """Tell whether a Subject is one that programs write, or that of a notice and nothing else ("failure notice")."""
    return bool(_SUBJECTS_OF_PROGRAMS.match(subject)) or any(form.pattern.fullmatch(subject) for form in SUBJECTS)
