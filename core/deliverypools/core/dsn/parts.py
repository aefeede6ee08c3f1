"""MIME parts of a message (RFC 2046), as far as notices need them: bounded, linear in the body, tolerant.

The library's parser builds every part of every level, and breaks on deep nesting. Here only parts that are asked for
are looked at, and only the beginning of a text is decoded.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MOST_PARTS: Final = 8
"""A notice has three or four."""
STATUS_TYPES: Final = frozenset({"message/delivery-status", "message/global-delivery-status"})
"""Types of the machine-readable part of a DSN (RFC 3464 section 2, RFC 6533 section 4)."""
_MOST_DEPTH: Final = 4
_MOST_OF_A_FIELD: Final = 4000
_MOST_OF_A_PHRASE: Final = 600
_MOST_OF_A_PART_HEADER: Final = 4096
_TEXT_BYTES: Final = 8192

_COMMENT = re.compile(r"\([^()]*\)")
_MOST_NESTED_COMMENTS: Final = 5
_MEDIA_TYPE = re.compile(r"\s*([\w.+-]{1,60})\s*/\s*([\w.+-]{1,60})")
# Postfix, Sun and others put "/", "=", "(" and ")" into boundaries, with and without quotes.
_BOUNDARY = re.compile(r"""(?i)\bboundary\s*=\s*(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))""")
_FIRST_DELIMITER = re.compile(rb"(?m)^--([!-~]{1,200})[ \t]*\r?$")
_CHARSET = re.compile(r"""(?i)\bcharset\s*=\s*["']?([\w.-]{1,40})""")
# Character sets of text; the library also has codecs that compress, or take long.
_KNOWN_CHARSET = re.compile(r"(?i)utf-?8|us-ascii|(?:iso-|windows-|cp)[\w-]+|koi8-\w|euc-\w\w|shift[_-]jis|gb\w+|big5")
_FIELD_NAME = re.compile(rb"[!-9;-~]{1,80}[ \t]*:")
_END_OF_HEADER = re.compile(rb"\r?\n[ \t]*\r?\n")
_TAG = re.compile(r"<[^<>]*>")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_ENCODED_WORDS = re.compile(r"=\?([\w-]{1,40})(?:\*[\w-]{1,20})?\?([BbQq])\?([^?\s]{0,400})\?=(?:\s+(?==\?))?")
_PLAIN_FORMS: Final = {
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "&nbsp;": " ",
    "&#39;": "'",
    "&quot;": '"',
}


@dataclass(frozen=True)
class Part:
    """A body with the fields that say what it is: a whole message's, or one part of it."""

    content_type: str
    encoding: str
    body: bytes

    @cached_property
    def media_type(self) -> str:
        """Return its type and subtype, lower case; "text/plain" where it names none (RFC 2045 section 5.2)."""
        return media_type(self.content_type)

    @cached_property
    def parts(self) -> list[Part]:
        """Return the first parts of a multipart, none for anything else. A boundary that is not there is guessed."""
        if not self.media_type.startswith("multipart/"):
            return []
        named = _BOUNDARY.search(self.content_type[:_MOST_OF_A_FIELD])
        boundary = (named[1] or named[2]).encode("utf-8", "replace") if named else b""
        body = b"\n" + self.body
        if not boundary or b"\n--" + boundary not in body:
            guessed = _FIRST_DELIMITER.search(self.body)
            if guessed is None:
                return []
            boundary = guessed[1]
        return [_part(piece) for piece in _pieces(body, boundary)]

    @cached_property
    def content(self) -> bytes:
        """Return its content without transfer encoding (RFC 2045 section 6)."""
        return _decoded(self.body, self.encoding)


def without_comments(value: str) -> str:
    """Return the beginning of a structured field, lower case, without comments (RFC 5322 section 3.2.2)."""
    value = value[:_MOST_OF_A_FIELD].lower()
    if "(" not in value:
        return value
    for _ in range(_MOST_NESTED_COMMENTS):
        value = _COMMENT.sub(" ", value)
    return value


def media_type(content_type: str) -> str:
    """Return type and subtype, lower case; "text/plain" where it names none."""
    found = _MEDIA_TYPE.match(without_comments(content_type[:_MOST_OF_A_FIELD]))
    return f"{found[1]}/{found[2]}" if found else "text/plain"


def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
    """Return what stands between delimiter lines (RFC 2046 section 5.1.1)."""
    # The line end of one delimiter may begin the next: it is looked at, not taken.
    delimiter = re.compile(rb"\n--" + re.escape(boundary) + rb"(--)?[ \t\r]*(?=\n|\Z)")
    pieces: list[bytes] = []
    begin = -1
    for found in delimiter.finditer(body):
        if begin >= 0:
            pieces.append(body[begin : found.start()])
        if found[1] or len(pieces) == MOST_PARTS:
            return pieces
        begin = found.end() + 1
    return [*pieces, body[begin:]] if begin >= 0 else pieces


def _part(piece: bytes) -> Part:
    if not _FIELD_NAME.match(piece):
        # A blank line, and no fields.
        return Part("", "", piece.removeprefix(b"\r").removeprefix(b"\n"))
    ending = _END_OF_HEADER.search(piece, 0, _MOST_OF_A_PART_HEADER)
    header = piece[: ending.start() if ending else _MOST_OF_A_PART_HEADER].decode("utf-8", "replace")
    return Part(
        content_type=_field("content-type", header),
        encoding=_field("content-transfer-encoding", header),
        body=piece[ending.end() :] if ending else b"",
    )


def _field(name: str, header: str) -> str:
    found = re.search(rf"(?mi)^{name}[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", header)
    return found[1].strip() if found else ""


def _decoded(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "quoted-printable":
            return binascii.a2b_qp(body)
        case "base64":
            digits = _NOT_BASE64.sub(b"", body)
            # Cut anywhere: one digit of four says nothing, two and three lack their padding.
            return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4) if len(digits) % 4 != 1 else digits[:-1])
        case _:
            return body


def text_of(whole: Part) -> str:
    """Return the beginning of the text for people, decoded; "" where there is none."""
    return _first_text(whole, 0)


def _first_text(whole: Part, depth: int) -> str:
    kind = whole.media_type
    if kind.startswith("text/"):
        return _plain(_text(whole), is_html=kind == "text/html")
    if depth < _MOST_DEPTH:
        for part in whole.parts:
            if part.media_type.startswith(("text/", "multipart/")) and (text := _first_text(part, depth + 1)).strip():
                return text
    return ""


def _text(part: Part) -> str:
    content = _decoded(part.body[:_TEXT_BYTES], part.encoding)
    named = _CHARSET.search(part.content_type[:_MOST_OF_A_FIELD])
    return _in_charset(content, named[1] if named else "utf-8")


def _in_charset(content: bytes, charset: str) -> str:
    if not _KNOWN_CHARSET.fullmatch(charset):
        charset = "utf-8"
    try:
        return content.decode(charset, "replace")
    except (LookupError, ValueError):
        return content.decode("utf-8", "replace")


def _plain(text: str, *, is_html: bool) -> str:
    if is_html:
        text = _TAG.sub(" ", text)
    for form, plain in _PLAIN_FORMS.items():
        text = text.replace(form, plain)
    return text


def plain_phrase(value: str) -> str:
    """Return the beginning of an unstructured field, one line, lower case, its encoded words decoded (RFC 2047)."""
    value = value[:_MOST_OF_A_PHRASE]
    if "=?" in value:
        value = _ENCODED_WORDS.sub(_encoded_word, value)
    return " ".join(_plain(value, is_html=False).split()).lower()


def _encoded_word(found: re.Match[str]) -> str:
    charset, encoding, text = found[1], found[2].lower(), found[3].encode("ascii", "replace")
    if encoding == "q":
        text = text.replace(b"_", b" ")
    return _in_charset(_decoded(text, "base64" if encoding == "b" else "quoted-printable"), charset)
