"""Whatever a client writes: an account has one name, which any database takes, and it stays as it is."""

from hypothesis import assume, example, given
from hypothesis import strategies as st

from deliverypools.core.account_names import LONGEST, UNREADABLE, account_name

PIECES = (
    ["prvs=1=", "prvs=", "/0", "btv1==0==", "SRS0=h=t=d.example=", "SRS0+h=t=", "SRS1=h=f==h=t=d=", "=", "+"],
    ["@", "<", ">", " ", ".", "\N{IDEOGRAPHIC FULL STOP}", "ü", "İ", "a", "uid:", "\udcff", '"', "\\"],
)
WRAPPINGS = st.sampled_from([piece for pieces in PIECES for piece in pieces])
ADDRESSES = st.one_of(
    st.lists(WRAPPINGS, max_size=12).map("".join),
    st.text(),
    st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
LOCAL_PARTS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789._-=", min_size=1, max_size=20)
TAGS = st.text(alphabet="0123456789abcdef", min_size=10, max_size=10)
DOMAINS = st.sampled_from(["example.org", "mail.example.net", "xn--bcher-kva.example"])


@given(ADDRESSES)
@example("< a@b >")
@example("prvs=x/y+z@d")
@example('"\\"a\\""@d')
@example("a@ü\N{IDEOGRAPHIC FULL STOP}")
def test_a_name_stays_as_it_is(address):
    name = account_name(address)
    assert account_name(name) == name
    assert len(name.encode()) <= 4 * LONGEST


@given(st.lists(WRAPPINGS, min_size=20, max_size=400).map("".join))
def test_a_name_that_was_wrapped_often_stays_as_it_is(address):
    name = account_name(address)
    assert account_name(name) == name


@given(LOCAL_PARTS, DOMAINS, TAGS, st.text(alphabet="abc+", max_size=5))
def test_all_forms_of_an_address_are_one_account(local_part, domain, tag, extension):
    name = account_name(f"{local_part}@{domain}")
    assume(name == f"{local_part}@{domain}")
    for form in (
        f"{local_part.upper()}@{domain.upper()}",
        f"<{local_part}@{domain}>",
        f'"{local_part}"@{domain}',
        f"{local_part}+{extension}@{domain}",
        f"prvs={tag}={local_part}@{domain}",
        f"btv1=={tag}=={local_part}@{domain}",
        f"SRS0=abcd=xy={domain}={local_part}@forwarder.example",
        f"SRS1=dcba=forwarder.example==abcd=xy={domain}={local_part}@second.example",
    ):
        assert account_name(form) == name, form


@given(st.text(min_size=1))
def test_nothing_but_blanks_and_brackets_has_no_name(login):
    assume(set(login.strip()) - set("<>"))
    assert account_name(login.strip())


def test_the_account_of_unreadable_names_is_no_address():
    assert "@" not in UNREADABLE
