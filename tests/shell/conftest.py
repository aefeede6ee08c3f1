"""Sites and daemons for the tests of this folder."""

import contextlib

import pytest
from daemons import Daemon, Site


@pytest.fixture(scope="module")
def stack():
    """What a module of tests leaves running until its end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def shared_milter(stack, tmp_path_factory):
    """A milter that all tests of a module talk to: they leave nothing behind but their connections' messages."""
    return started("milter", made(tmp_path_factory.mktemp("site"), stack), stack)


@pytest.fixture
def make_site(tmp_path):
    """Make the site of one test."""
    with contextlib.ExitStack() as stack:
        yield lambda **changes: made(tmp_path, stack, **changes)


@pytest.fixture
def start():
    """Start a daemon; it ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda name, site: started(name, site, stack)


@pytest.fixture
def launch():
    """Launch a daemon without waiting until it serves; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def launch(name, site):
            daemon = Daemon(name, site)
            stack.callback(daemon.end)
            return daemon

        yield launch


def made(folder, stack, **changes):
    site = Site(folder, **changes)
    stack.callback(site.dns.stop)
    return site


def started(name, site, stack):
    daemon = Daemon(name, site)
    stack.callback(daemon.end)
    return daemon.wait_until_ready()
