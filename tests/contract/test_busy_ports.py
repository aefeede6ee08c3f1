"""Which ports a plan leaves alone: those of other programs, and of other instances of Postfix."""

import contextlib
import os
import socket

import pytest

from deliverypools.adapters import install_locks
from deliverypools.adapters.after_reload import watch
from deliverypools.adapters.busy_ports import busy_ports, listeners_at, ports_in_use, ports_of, shared_ports
from deliverypools.adapters.postfix_commands import PostfixError, PostfixInstance
from deliverypools.adapters.postfix_editor import PostfixEditor
from deliverypools.core.postfix_install.manifest import Manifest, Phase, Was


def manifest_of(*ports):
    services = {(f"127.0.0.1:{port}", "inet"): Was(None, "x") for port in ports}
    services |= {("smtp", "inet"): Was("a", "b"), ("127.0.0.1:10025", "inet"): Was("a", "b")}
    return Manifest(
        product_version="1",
        made_at=0.0,
        phase=Phase.INSTALLED,
        hashes={},
        originals={},
        parameters={},
        services=services,
        files=(),
    )


@pytest.fixture
def instances(tmp_path, monkeypatch):
    """Two instances of postmulti(1): the default one, and another."""
    default, other = tmp_path / "default", tmp_path / "other"
    for directory in (default, other):
        directory.mkdir()
        (directory / "main.cf").write_text(f"compatibility_level = 3.6\nmulti_instance_directories = {other}\n")
        (directory / "master.cf").write_text("# 127.0.0.1:10050 inet\nsmtp inet n - y - - smtpd\n")
    monkeypatch.setenv("MAIL_CONFIG", str(default))
    return default, other


def instance_at(directory):
    for path in directory.iterdir():
        os.utime(path, (0, 0))
    return PostfixInstance(str(directory))


def test_ports_of_other_instances_are_left_to_them(instances):
    default, other = instances
    with (default / "master.cf").open("a") as file:
        file.write("127.0.0.1:10027 inet n - y - - smtpd\n[::1]:10028 inet n - y - - smtpd\n")
    assert {10027, 10028} <= busy_ports(instance_at(other), None)
    assert 10050 not in busy_ports(instance_at(other), None)
    (other / "master.cf").write_text("127.0.0.1:10033 inet n - y - - smtpd\n")
    assert 10033 in busy_ports(instance_at(default), None)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_ports_of_other_programs_are_busy(instances, address):
    with socket.socket() as program:
        program.bind((address, 0))
        port = program.getsockname()[1]
        assert ports_in_use([port]) == {port}
        program.listen()
        busy = busy_ports(instance_at(instances[0]), None)
        assert port in busy
    assert ports_in_use([port]) == set()


@contextlib.contextmanager
def listeners(number, port=0):
    """Let several listen at one port, as master(8) does; yield it."""
    with contextlib.ExitStack() as sockets:
        for _ in range(number):
            one = sockets.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", port))
            one.listen()
            port = one.getsockname()[1]
        yield port


@pytest.mark.parametrize(
    ("number", "is_running", "is_shared"), [(1, True, False), (2, True, True), (0, False, False), (1, False, True)]
)
def test_our_port_is_given_up_where_others_listen_too(instances, monkeypatch, number, is_running, is_shared):
    monkeypatch.setattr(PostfixInstance, "is_running", lambda _: is_running)
    with listeners(1) as other, listeners(number) as bound:
        port = bound or other + 1
        instance = instance_at(instances[0])
        assert listeners_at([other, port])[port] == number
        assert shared_ports(instance, {port}) == ({port} if is_shared else set())
        assert (port in busy_ports(instance, manifest_of(port))) is is_shared


def test_a_reload_by_which_two_listen_at_one_port_has_failed(instances, monkeypatch):
    monkeypatch.setattr(PostfixInstance, "is_running", lambda _: True)
    instance = instance_at(instances[0])
    with listeners(1) as port:
        watch(instance, {port}, watch_seconds=0)
        with (
            listeners(1, port),
            pytest.raises(PostfixError, match=f"another program listens at 127.0.0.1:{port}, too"),
        ):
            watch(instance, {port}, watch_seconds=0)


class TestPortLock:
    """Tests may run beside each other: here a file is what is locked."""

    @pytest.fixture
    def namespace(self, tmp_path, monkeypatch):
        path = tmp_path / "net"
        path.touch()
        monkeypatch.setattr(install_locks, "_NAMESPACE", str(path))
        return path

    def test_installs_of_two_instances_are_kept_apart(self, instances, namespace):
        first, second = (PostfixEditor(instance_at(one), float) for one in instances)
        with first.changing(takes_ports=True):
            with pytest.raises(PostfixError, match="on another instance of Postfix"), second.changing(takes_ports=True):
                pass
            with second.changing():
                assert not (instances[1] / "delivery-pools/next").exists()
        with second.changing(takes_ports=True):
            assert namespace.exists()

    def test_where_it_cannot_be_locked_the_install_goes_on(self, instances, namespace):
        namespace.unlink()
        first, second = (PostfixEditor(instance_at(one), float) for one in instances)
        with first.changing(takes_ports=True), second.changing(takes_ports=True) as was_interrupted:
            assert not was_interrupted


def test_our_ports_stay_ours_and_what_was_passed_over_stays_passed_over(instances):
    ours = manifest_of(10028, 10030)
    assert ports_of(ours) == {10028, 10030}
    busy = busy_ports(instance_at(instances[0]), ours)
    assert {10027, 10029} <= busy
    assert not busy & {10028, 10030}
