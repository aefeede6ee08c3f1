"""An account has one name, however its address or login is written."""

import pytest

from deliverypools.core.account_names import LONGEST, UNREADABLE, account_name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param("alice@example.org", "alice@example.org", id="as it is"),
        pytest.param("Alice@EXAMPLE.org", "alice@example.org", id="case"),
        pytest.param("<alice@example.org>", "alice@example.org", id="angle brackets"),
        pytest.param(" alice@example.org. ", "alice@example.org", id="blanks and a final dot"),
        pytest.param("Bob@Bücher.Example", "bob@xn--bcher-kva.example", id="domain with international characters"),
        pytest.param("JÜRGEN@example.org", "jürgen@example.org", id="local part with international characters"),
        pytest.param("alice+news@example.org", "alice@example.org", id="plus extension"),
        pytest.param("alice+a+b@example.org", "alice@example.org", id="two plus extensions"),
        pytest.param("+x@example.org", "+x@example.org", id="nothing before the plus"),
        pytest.param("+@example.org", "+@example.org", id="plus only"),
        pytest.param('"alice"@example.org', "alice@example.org", id="quotes that are not needed"),
        pytest.param('"alice+news"@example.org', "alice@example.org", id="plus in quotes"),
        pytest.param('"al ice+x"@example.org', "al ice@example.org", id="quotes that are needed"),
        pytest.param('"a@b"@example.org', "a@b@example.org", id="an @ in quotes"),
        pytest.param("a@b@example.org", "a@b@example.org", id="the same as Postfix's policy request has it"),
        pytest.param(r'"a\"b\\c"@example.org', r'a"b\c@example.org', id="quoted pairs"),
        pytest.param(r'"a\"@example.org', r'"a\"@example.org', id="quotes that do not end"),
        pytest.param('""@example.org', '""@example.org', id="nothing in quotes"),
        pytest.param("Alice", "alice", id="login"),
        pytest.param("alice+phone", "alice", id="login with an extension"),
        pytest.param("CORP\\Alice", "corp\\alice", id="login of a Windows domain"),
        pytest.param("uid:33", "uid:33", id="system user"),
        pytest.param("2001:db8::1", "2001:db8::1", id="address of a client"),
        pytest.param("", "", id="empty"),
        pytest.param("<>", "", id="null reverse-path"),
        pytest.param("@", "@", id="at sign only"),
        pytest.param("alice@", "alice@", id="no domain"),
        pytest.param("@example.org", "@example.org", id="no local part"),
    ],
)
def test_case_extensions_and_quotes(written, name):
    assert account_name(written) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param("prvs=0123ABCDEF=Alice@example.org", "alice@example.org", id="prvs=TAG=LOCAL"),
        pytest.param("prvs=alice/0123abcdef@example.org", "alice@example.org", id="prvs=LOCAL/TAG"),
        pytest.param("btv1==0423a1b2c3d==alice@example.org", "alice@example.org", id="btv1==TAG==LOCAL"),
        pytest.param("prvs=0123abcdef=alice+news@example.org", "alice@example.org", id="BATV with an extension"),
        pytest.param('"prvs=alice/0123abcdef"@example.org', "alice@example.org", id="BATV in quotes"),
        pytest.param("prvs=0123abcdef=a=b@example.org", "a=b@example.org", id="BATV of a local part with ="),
        pytest.param("prvs=@example.org", "prvs=@example.org", id="no BATV"),
        pytest.param("prvs=x=@example.org", "prvs=x=@example.org", id="BATV of nothing"),
        pytest.param("prvs=0123abcdef=alice", "prvs=0123abcdef=alice", id="no address"),
    ],
)
def test_batv_of_an_address_is_the_address(written, name):
    assert account_name(written) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        pytest.param("SRS0=HHHH=TT=Example.org=Alice@fwd.example", "alice@example.org", id="SRS0"),
        pytest.param("SRS0+HHHH=TT=example.org=alice@fwd.example", "alice@example.org", id="SRS0 with +"),
        pytest.param("srs0-hhhh=tt=example.org=alice@fwd.example", "alice@example.org", id="SRS0 with -"),
        pytest.param("SRS0=h+/h=TT=example.org=alice@fwd.example", "alice@example.org", id="hash with + and /"),
        pytest.param("SRS0=HHHH=TT=example.org=a=b=c@fwd.example", "a=b=c@example.org", id="local part with ="),
        pytest.param("SRS0=HHHH=TT=example.org=alice+x@fwd.example", "alice@example.org", id="extension"),
        pytest.param("SRS0=HHHH=TT=bücher.example=bob@fwd.example", "bob@xn--bcher-kva.example", id="U-label"),
        pytest.param(
            "SRS1=HHHH=fwd.example==GGGG=TT=example.org=alice@second.example", "alice@example.org", id="SRS1 of SRS0="
        ),
        pytest.param(
            "SRS1=HHHH=fwd.example=+GGGG=TT=example.org=a=b@second.example", "a=b@example.org", id="SRS1 of SRS0+"
        ),
        pytest.param(
            "prvs=0123abcdef=SRS0=HHHH=TT=example.org=alice@fwd.example", "alice@example.org", id="BATV of SRS"
        ),
        pytest.param(
            "SRS0=HHHH=TT=example.org=prvs=0123abcdef=alice@fwd.example", "alice@example.org", id="SRS of BATV"
        ),
        pytest.param("SRS0=HHHH=TT=alice@fwd.example", "srs0=hhhh=tt=alice@fwd.example", id="no SRS"),
        pytest.param("srs0=a=b=example.org=@fwd.example", "srs0=a=b=example.org=@fwd.example", id="SRS of nobody"),
    ],
)
def test_srs_of_an_address_is_the_address(written, name):
    assert account_name(written) == name


def test_different_people_stay_different():
    people = ["alice@example.org", "alice@example.net", "alice", "bob@example.org", "a.lice@example.org", "uid:33"]
    assert len({account_name(person) for person in people}) == len(people)


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * (LONGEST + 1),
        "a" * 1_000_000,
        "prvs=x=" * 100 + "alice@example.org",
        "<" * 400 + "alice@example.org" + ">" * 400,
        "\udcff" * 900,
    ],
    ids=["too long", "a megabyte", "BATV of BATV", "brackets", "what grows too long"],
)
def test_names_that_nobody_has_share_one_account(hostile):
    assert account_name(hostile) == UNREADABLE
    assert account_name(UNREADABLE) == UNREADABLE


def test_bytes_that_are_no_utf_8_can_be_stored():
    name = account_name(b"al\xffice@example.org".decode("utf-8", "surrogateescape"))
    assert name.encode() == rb"al\udcffice@example.org"
