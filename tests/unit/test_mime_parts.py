"""Parts of a message, as far as notices need them."""

import pytest

from deliverypools.core.dsn.parts import MOST_PARTS, Part, text_of

MIXED = "multipart/mixed; boundary=b"


def whole(body, content_type=MIXED, encoding=""):
    return Part(content_type, encoding, body)


def bodies(body, content_type=MIXED):
    return [part.body for part in whole(body, content_type).parts]


class TestParts:
    def test_they_stand_between_the_delimiter_lines(self):
        # RFC 2046 section 5.1.1: the line end before a delimiter belongs to it.
        assert bodies(b"preamble\n--b\n\none\n\n--b\n\ntwo\n--b--\nepilogue\n--b\n\nno\n") == [b"one\n", b"two"]

    def test_with_the_line_ends_of_the_wire(self):
        assert bodies(b"--b\r\n\r\none\r\n--b \t\r\n\r\ntwo\r\n--b--\r\n") == [b"one\r", b"two\r"]

    def test_the_last_one_may_be_cut(self):
        assert bodies(b"--b\n\none\n--b\n\ntw") == [b"one", b"tw"]
        assert bodies(b"--b\n\none\n--b") == [b"one", b""]

    def test_empty_ones(self):
        assert bodies(b"--b\n--b\n--b--\n") == [b"", b""]

    def test_a_longer_boundary_that_begins_alike_is_another(self):
        assert bodies(b"--b\n\n--bb\n--b2\n--b--") == [b"--bb\n--b2"]

    def test_no_more_than_a_notice_has(self):
        assert bodies(b"--b\n\nx\n" * 1000) == [b"x"] * MOST_PARTS

    @pytest.mark.parametrize(
        "content_type",
        [
            'multipart/mixed; boundary="=_(a)/b c=?"',
            'Multipart/Mixed;\n\tBOUNDARY = "=_(a)/b c=?" ; x=y',
            'multipart/mixed (a comment); boundary="=_(a)/b c=?"',
        ],
    )
    def test_boundaries_of_all_sorts(self, content_type):
        assert bodies(b"--guess\n--=_(a)/b c=?\n\none\n--=_(a)/b c=?--\n", content_type) == [b"one"]

    @pytest.mark.parametrize(
        "content_type", ["multipart/mixed", "multipart/mixed; boundary=\ud800", "multipart/mixed; b=x"]
    )
    def test_a_boundary_that_is_missing_is_the_first_delimiter_line(self, content_type):
        assert bodies(b"Hello\n--b\n\none\n--b--\n", content_type) == [b"one"]
        assert bodies(b"Hello\n", content_type) == []

    def test_only_a_multipart_has_parts(self):
        assert bodies(b"--b\n\none\n--b--\n", "text/plain; boundary=b") == []

    def test_fields_are_unfolded_and_the_topmost_counts(self):
        (part,) = whole(b"--b\nX: y\ncontent-type:\n\ttext/html;\n charset=x\nContent-Type: a/b\n\nhi\n--b--").parts
        assert (part.media_type, part.body) == ("text/html", b"hi")

    def test_without_fields_it_is_text(self):
        for body in (b"--b\n\nhi\n\nyou\n--b--", b"--b\nhi\n\nyou\n--b--"):
            (part,) = whole(body).parts
            assert part.media_type == "text/plain"
            assert b"hi" in part.body + body[:7]
            assert part.body.endswith(b"you")


class TestContent:
    @pytest.mark.parametrize(
        ("encoding", "written", "read"),
        [
            ("7bit", b"a=20b", b"a=20b"),
            ("", b"a=20b", b"a=20b"),
            (" Quoted-Printable ", b"a=20b=\nc", b"a bc"),
            ("base64", b"aGVs\r\nbG8=", b"hello"),
            ("base64", b"aGVsbG8", b"hello"),
            ("base64", b"aGVsb", b"hel"),
            ("base64", b"!!!", b""),
            ("x-uuencode", b"abc", b"abc"),
        ],
    )
    def test_transfer_encodings(self, encoding, written, read):
        assert whole(written, "text/plain", encoding).content == read


class TestText:
    def test_the_first_part_that_has_any(self):
        body = b"--b\nContent-Type: image/png\n\nx\n--b\n\n \n--b\nContent-Type: text/html\n\n<p>Hello\n--b--"
        assert text_of(whole(body)).split() == ["Hello"]

    def test_in_an_alternative(self):
        body = b'--b\nContent-Type: multipart/alternative; boundary="c"\n\n--c\n\nHello\n--c--\n--b--'
        assert text_of(whole(body)) == "Hello"

    def test_not_in_a_message_that_is_attached(self):
        assert text_of(whole(b"--b\nContent-Type: message/rfc822\n\nSubject: x\n\nHello\n--b--")) == ""

    def test_not_deeper_than_notices_nest(self):
        body = b"".join(b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (n, n + 1) for n in range(2000))
        assert text_of(whole(body, "multipart/mixed; boundary=b0")) == ""

    def test_in_the_character_set_that_is_named(self):
        for charset in ("iso-2022-jp", "utf-8", "Shift_JIS", "euc-jp"):
            written = "メール".encode(charset)
            assert text_of(whole(written, f'text/plain; charset="{charset}"')) == "メール"

    @pytest.mark.parametrize(
        "charset", ["zlib", "punycode", "idna", "unicode_escape", "no-such", "iso-9999-9", "utf-16"]
    )
    def test_in_utf_8_where_it_is_none_of_text(self, charset):
        assert text_of(whole("é".encode(), f"text/plain; charset={charset}")) == "é"

    def test_only_its_beginning(self):
        assert len(text_of(whole(b"x" * 1_000_000, "text/plain"))) == 8192
