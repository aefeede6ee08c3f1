"""SRS beside Debian's postsrsd: with the same secrets both write the same addresses, and read each other's."""

import random
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from urllib.parse import unquote_to_bytes

import pytest

from deliverypools.core.srs import Expired, SenderRewriter, Tampered
from deliverypools.lab.waiting import wait_until

SECRETS = (b"c2VjcmV0IG9mIHRoZSB0ZXN0", b"b2xkZXIgc2VjcmV0IG9mIG91cnM", b" blanks belong to it ")
OURS = "srs.example.org"
DAY = 86400
ADDRESSES = 1000
LOCAL_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#$&'*+-/=?^_`{|}~"
LABEL_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789"
HASH_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Postsrsd:
    """The daemon's two tables, tcp_table(5)."""

    def __init__(self, stack, forward_port, reverse_port):
        self._files = []
        for port in (forward_port, reverse_port):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            self._files.append(stack.enter_context(connection.makefile("rwb")))

    def forward(self, address):
        return self._ask(self._files[0], address)

    def reverse(self, address):
        return self._ask(self._files[1], address)

    def _ask(self, table, address):
        table.write(b"get " + "".join(f"%{c:02x}" for c in address.encode()).encode() + b"\n")
        table.flush()
        status, _, text = table.readline().decode("ascii").strip().partition(" ")
        return unquote_to_bytes(text).decode() if status == "200" else None


def free_ports(number):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]


def accepts(process, port):
    assert process.poll() is None, "postsrsd ended"
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def running(folder, ports):
    command = ["/usr/sbin/postsrsd", "-s", "secrets", "-d", OURS, "-l", "127.0.0.1", "-4"]
    command += ["-f", str(ports[0]), "-r", str(ports[1])]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: all(accepts(process, port) for port in ports), timeout_seconds=10, what="postsrsd answers")
        with ExitStack() as stack:
            yield Postsrsd(stack, *ports)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def postsrsd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("postsrsd")
    (folder / "secrets").write_bytes(b"\n".join(SECRETS) + b"\n")
    with running(folder, free_ports(2)) as tables:
        yield tables


@pytest.fixture
def chance():
    """A source of random numbers whose seed shows when a test fails."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"random addresses from seed {seed}")
    return random.Random(seed)


def ours(secrets=SECRETS, shift=0):
    return SenderRewriter(secrets, OURS, lambda: time.time() + shift, 240)


def on_one_day(compare):
    """Compare, again if midnight (UTC) came in between: postsrsd has no other clock."""
    day = None
    while day != time.time() // DAY:
        day = time.time() // DAY
        result = compare()
    return result


def text(chance, characters, most):
    return "".join(chance.choices(characters, k=chance.randint(1, most)))


def domain(chance):
    return ".".join(text(chance, LABEL_CHARACTERS, 10) for _ in range(chance.randint(1, 4)))


def plain_address(chance):
    return f"{text(chance, LOCAL_CHARACTERS, 20)}@{domain(chance)}"


def srs0_of_others(chance):
    parts = (text(chance, HASH_CHARACTERS, 6), text(chance, HASH_CHARACTERS[:26], 2), domain(chance))
    return f"SRS0{chance.choice('=-+')}{'='.join(parts)}={text(chance, LOCAL_CHARACTERS, 20)}@{domain(chance)}"


def srs1_of_others(chance):
    opaque = srs0_of_others(chance).rpartition("@")[0].removeprefix("SRS0")
    return f"SRS1{chance.choice('=-+')}{text(chance, HASH_CHARACTERS, 6)}={domain(chance)}={opaque}@{domain(chance)}"


@pytest.mark.parametrize("make", [plain_address, srs0_of_others, srs1_of_others])
def test_both_rewrite_a_sender_to_the_same_bytes(postsrsd, chance, make):
    senders = [make(chance) for _ in range(ADDRESSES)]
    theirs, written = on_one_day(
        lambda: ([postsrsd.forward(one) for one in senders], [ours().forward(one) for one in senders])
    )
    assert written == theirs
    assert all(address.startswith("SRS0" if make is plain_address else "SRS1") for address in written)


@pytest.mark.parametrize("make", [plain_address, srs0_of_others, srs1_of_others])
def test_both_lead_back_what_the_other_wrote(postsrsd, chance, make):
    rewriter = ours()
    for _ in range(ADDRESSES):
        sender = make(chance)
        mine, theirs = rewriter.forward(sender), postsrsd.forward(sender)
        original = postsrsd.reverse(mine)
        assert original is not None
        assert rewriter.reverse(theirs) == original
        if make is plain_address:
            assert original == sender


def test_both_lead_back_in_lower_case(postsrsd, chance):
    for _ in range(100):
        address = ours().forward(plain_address(chance)).lower()
        assert ours().reverse(address) == postsrsd.reverse(address)


@pytest.mark.parametrize("number", range(len(SECRETS)))
def test_both_lead_back_with_every_secret(postsrsd, number):
    address = ours(secrets=SECRETS[number:]).forward("alice@example.net")
    assert ours().reverse(address) == postsrsd.reverse(address) == "alice@example.net"


@pytest.mark.parametrize("days", [0, 1, 20, 21])
def test_both_take_addresses_of_these_days(postsrsd, days):
    def compare():
        address = ours(shift=-days * DAY).forward("alice@example.net")
        return ours().reverse(address), postsrsd.reverse(address)

    assert on_one_day(compare) == ("alice@example.net", "alice@example.net")


@pytest.mark.parametrize("days", [22, 23, 500])
def test_both_refuse_addresses_of_these_days(postsrsd, days):
    def compare():
        address = ours(shift=-days * DAY).forward("alice@example.net")
        with pytest.raises(Expired):
            ours().reverse(address)
        return postsrsd.reverse(address)

    assert on_one_day(compare) is None


def test_both_refuse_changed_addresses(postsrsd, chance):
    for _ in range(100):
        address = ours().forward(plain_address(chance))
        changed = address.replace(f"@{OURS}", f"x@{OURS}")
        assert postsrsd.reverse(changed) is None
        with pytest.raises(Tampered):
            ours().reverse(changed)


def test_utf8_local_parts_are_the_same_in_lower_case(postsrsd):
    for sender in ("jörg@example.net", "用户@example.net"):
        mine, theirs = on_one_day(lambda one=sender: (ours().forward(one), postsrsd.forward(one)))
        assert mine == theirs
        assert ours().reverse(mine) == postsrsd.reverse(mine) == sender
