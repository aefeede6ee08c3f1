"""Codes of DNS lists: any text is a code or an explained mistake, and a code can be written and read again."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from deliverypools.core.dns_lists import DnsList, judge_answers, parse_code, query_name
from deliverypools.core.facts import Answer

octets = st.sets(st.integers(0, 255), min_size=1, max_size=6)


@given(st.text(alphabet="0123456789.[];-* x", max_size=60) | st.text(max_size=60))
def test_any_text_is_a_code_or_an_explained_mistake(text):
    mistake = ""
    try:
        code = parse_code(text)
        assert parse_code(str(code)) == code
    except ValueError as error:
        mistake = str(error)
    assert mistake.isprintable()


@given(octets, octets, octets.filter(lambda chosen: chosen != {255}), st.ip_addresses(v=4))
def test_a_code_matches_just_what_it_names(second, third, fourth, other):
    wanted = [{127}, second | {7}, third, fourth]
    code = parse_code(".".join(f"[{';'.join(map(str, sorted(each)))}]" for each in wanted))
    assert code.matches(IPv4Address(bytes(min(each) for each in wanted)))
    assert code.matches(other) == all(octet in each for octet, each in zip(other.packed, wanted, strict=True))


@given(st.lists(st.ip_addresses(v=4).map(str), max_size=300))
def test_only_answers_in_127_are_ever_a_listing(answers):
    finding = judge_answers(DnsList("lists.example"), answers)
    if finding.answer is Answer.YES:
        assert all(answer.startswith("127.") for answer in answers)


@given(st.ip_addresses())
def test_names_lead_back_to_their_address(client):
    parts = query_name(client, "lists.example").split(".")[:-2]
    mapped = getattr(client, "ipv4_mapped", None)
    if len(parts) == 4:
        assert ip_address(".".join(reversed(parts))) == (mapped or client)
    else:
        assert IPv6Address(int("".join(reversed(parts)), 16)) == client
