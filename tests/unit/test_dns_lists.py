"""DNS lists of hosts: codes, the names that are asked for, and what answers mean."""

import re
from ipaddress import ip_address

import pytest

from deliverypools.core.dns_lists import (
    LONGEST_LIST_NAME,
    AnswerCode,
    DnsList,
    is_public,
    judge_answers,
    parse_code,
    query_name,
)
from deliverypools.core.facts import Answer, Finding

ANY_CODE = DnsList("lists.example")


def with_code(text):
    return DnsList("lists.example", parse_code(text))


class TestCodes:
    @pytest.mark.parametrize(
        ("code", "answer", "matches"),
        [
            ("127.0.0.2", "127.0.0.2", True),
            ("127.0.0.2", "127.0.0.3", False),
            ("127.0.0.2", "127.0.1.2", False),
            ("127.0.0.[2]", "127.0.0.2", True),
            ("127.0.0.[2;4..8]", "127.0.0.2", True),
            ("127.0.0.[2;4..8]", "127.0.0.3", False),
            ("127.0.0.[2;4..8]", "127.0.0.4", True),
            ("127.0.0.[2;4..8]", "127.0.0.8", True),
            ("127.0.0.[2;4..8]", "127.0.0.9", False),
            ("127.[0..255].[0;2].[0..255]", "127.77.2.255", True),
            ("127.[0..255].[0;2].[0..255]", "127.77.1.255", False),
            ("[126..127].0.0.2", "127.0.0.2", True),
            ("127.0.0.002", "127.0.0.2", True),
        ],
    )
    def test_answers_that_match(self, code, answer, matches):
        assert parse_code(code).matches(ip_address(answer)) is matches

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            ("127.0.0.2", "127.0.0.2"),
            ("127.0.0.[2]", "127.0.0.2"),
            ("127.0.0.[8;2;4..7]", "127.0.0.[2;4..8]"),
            ("127.[0;1].0.[2..2;3]", "127.[0..1].0.[2..3]"),
        ],
    )
    def test_text(self, code, text):
        assert str(parse_code(code)) == text
        assert parse_code(text) == parse_code(code)

    @pytest.mark.parametrize(
        "code",
        [
            *("", "127", "127.0.0", "127.0.0.2.", "127.0.0.2.3", ".127.0.0.2", "127.0.0.-2", "127.0.0.2 ", "x"),
            *("127.0.0.2*3", "127.0.0.2/32", "127.0.0.[2;4", "127.0.0.2]", "127.0.0.[]", "127.0.0.[2,4]"),
            *("127.0.0.\u0662", "127.0.0.2\n", "::1", "1" * 100_000, "[" * 100_000, "127.0.0." + "[2;" * 30_000),
        ],
        ids=lambda code: repr(code[:16]),
    )
    def test_what_is_no_code_is_told_what_one_is(self, code):
        with pytest.raises(
            ValueError, match=r"^write the code as four numbers or patterns, for example 127\.0\.0\.2 or"
        ):
            parse_code(code)

    @pytest.mark.parametrize(
        ("code", "advice"),
        [
            ("127.0.0.[2;]", '"" in [2;] is neither a number nor a range; write for example [2;4..8]'),
            ("127.0.0.[2...8]", '"2...8" in [2...8] is neither a number nor a range'),
            ("127.0.0.[2..4..8]", '"2..4..8" in [2..4..8] is neither a number nor a range'),
            ("127.0.0.[8..2]", "8..2 is no range; write the smaller number first, 2..8"),
            ("127.0.0.256", "256 is too large; each number of the code is at most 255"),
            ("127.0.0.[2..999999999]", "999999999 is too large"),
            ("10.0.0.2", "the code never matches: answers of lists begin with 127, for example 127.0.0.2"),
            ("[0..126].0.0.2", "the code never matches"),
            ("127.255.255.254", "127.255.255.x is no listing: so a list says that it does not answer you"),
            ("127.255.255.[0..255]", "127.255.255.x is no listing"),
            ("127.0.0.1", "127.0.0.1 is no listing; write the code of a listing, for example 127.0.0.2"),
        ],
    )
    def test_what_is_wrong_in_a_code(self, code, advice):
        with pytest.raises(ValueError, match=f"^{re.escape(advice)}"):
            parse_code(code)


class TestNames:
    @pytest.mark.parametrize(
        ("client", "name"),
        [
            ("192.0.2.99", "99.2.0.192.lists.example"),
            ("::ffff:192.0.2.99", "99.2.0.192.lists.example"),
            (
                "2001:db8:1:2:3:4:567:89ab",
                "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.lists.example",
            ),
            ("::2%eth0", f"2.{'0.' * 31}lists.example"),
        ],
        ids=["IPv4", "IPv4-mapped", "RFC 5782 section 2.4", "zone"],
    )
    def test_octets_and_nibbles_in_reverse_order(self, client, name):
        assert query_name(ip_address(client), "lists.example") == name

    def test_the_longest_list_has_room_for_an_ipv6_address(self):
        assert len(query_name(ip_address("2001:db8::1"), "x" * LONGEST_LIST_NAME)) == 253

    @pytest.mark.parametrize(
        "client", ["192.0.2.1", "203.0.113.1", "8.8.8.8", "::ffff:8.8.8.8", "2001:db8::1", "2606:4700::1", "172.32.0.1"]
    )
    def test_public_addresses(self, client):
        assert is_public(ip_address(client))

    @pytest.mark.parametrize(
        "client",
        [
            *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1", "172.31.255.255"),
            *("192.168.1.1", "224.0.0.1", "255.255.255.255", "::ffff:10.0.0.1"),
            *("::", "::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "ff02::1"),
        ],
    )
    def test_addresses_that_no_list_can_know(self, client):
        assert not is_public(ip_address(client))


class TestAnswers:
    @pytest.mark.parametrize("answers", [["127.0.0.2"], ["127.0.0.1", "127.0.0.3"], ["127.9.9.9"], ["127.0.0.0"]])
    def test_any_address_in_127_is_a_listing(self, answers):
        finding = judge_answers(ANY_CODE, answers)
        assert finding == Finding(Answer.YES, f"lists.example: {answers[-1]}")

    @pytest.mark.parametrize("answers", [[], ["127.0.0.1"], ["127.0.0.1"] * 200])
    def test_no_listing(self, answers):
        assert judge_answers(ANY_CODE, answers) == Finding(Answer.NO)

    def test_only_the_code_counts_where_one_is_given(self):
        dns_list = with_code("127.0.0.[2;4]")
        assert judge_answers(dns_list, ["127.0.0.3", "127.0.0.5"]).answer is Answer.NO
        assert judge_answers(dns_list, ["127.0.0.3", "127.0.0.4"]).evidence == "lists.example: 127.0.0.4"
        assert judge_answers(with_code("127.0.0.[0..9]"), ["127.0.0.1"]).answer is Answer.NO

    @pytest.mark.parametrize("refusal", ["127.255.255.252", "127.255.255.254", "127.255.255.255", "127.255.255.0"])
    @pytest.mark.parametrize("dns_list", [ANY_CODE, with_code("127.[0..255].[0..255].[0..255]")], ids=str)
    def test_a_list_that_refuses_to_answer_says_nothing(self, dns_list, refusal):
        for answers in ([refusal], ["127.0.0.2", refusal]):
            finding = judge_answers(dns_list, answers)
            assert finding.answer is Answer.UNKNOWN
            assert finding.evidence.startswith(f"lists.example: {refusal}: it refuses to answer")

    @pytest.mark.parametrize("invented", ["198.51.100.1", "0.0.0.0", "128.0.0.2", "126.255.255.255", "10.0.0.2"])
    def test_answers_that_no_list_gives_say_nothing(self, invented):
        for answers in ([invented], ["127.0.0.2", invented]):
            finding = judge_answers(ANY_CODE, answers)
            assert finding.answer is Answer.UNKNOWN
            assert finding.evidence.startswith(f"lists.example: {invented}: no answer of a list")

    def test_two_hundred_answers(self):
        answers = [f"127.0.{n}.2" for n in range(200)]
        assert judge_answers(with_code("127.0.199.2"), answers).answer is Answer.YES
        assert judge_answers(with_code("127.0.200.2"), answers).answer is Answer.NO


def test_a_list_is_written_as_the_operator_would():
    assert str(ANY_CODE) == "lists.example"
    assert str(with_code("127.0.0.[2;4..8]")) == "lists.example=127.0.0.[2;4..8]"
    assert isinstance(with_code("127.0.0.2").code, AnswerCode)
