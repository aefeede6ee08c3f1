"""The file of SRS secrets on a real disk: reading, rotating, and what is said when it is wrong."""

import pytest

from deliverypools.adapters.key_lines import KEYS_KEPT, KeyFileError
from deliverypools.adapters.keys import Keys, read_all_keys, sender_rewriter
from deliverypools.adapters.srs_secrets import read_srs_secrets, rotate_srs_secrets
from deliverypools.core.settings import Forwarding, built_in_defaults

SECRET = b"4wQa0dYz5mC2rTq1lXvN7u9B"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "srs.secrets"


def test_secrets_are_read_newest_first(path):
    path.write_bytes(b"# new\n" + SECRET + b"\r\n\n   \n# old\nsixteen letters!")
    assert read_srs_secrets(str(path)) == (SECRET, b"sixteen letters!")


def test_what_postsrsd_takes_for_a_part_of_the_secret_is_one(path):
    path.write_bytes(b" blanks at both ends \n" + "Schlüssel für SRS".encode() + b"\n")
    assert read_srs_secrets(str(path)) == (b" blanks at both ends ", "Schlüssel für SRS".encode())


def test_a_missing_file_says_how_to_make_it(path):
    with pytest.raises(KeyFileError, match=r"srs\.secrets: no such file; make it with: delivery-pools keys rotate"):
        read_srs_secrets(str(path))


def test_a_file_without_a_secret_says_how_to_make_one(path):
    path.write_bytes(b"# nothing yet\n")
    with pytest.raises(KeyFileError, match=r"srs\.secrets: holds no key"):
        read_srs_secrets(str(path))


@pytest.mark.parametrize("line", [b"fifteen letters", b"a secret with\0 a NUL", b"a secret with\t a tabulator", b"x"])
def test_a_line_that_is_no_secret_is_named_and_not_told(path, line):
    path.write_bytes(SECRET + b"\n# second\n" + line + b"\n")
    with pytest.raises(KeyFileError, match=r"srs\.secrets:3: not a secret; a secret has at least 16") as caught:
        read_srs_secrets(str(path))
    assert line.decode() not in str(caught.value).replace("srs.secrets", "")
    assert SECRET.decode() not in str(caught.value)


def test_a_folder_is_refused(path):
    path.mkdir()
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_srs_secrets(str(path))


def test_the_first_rotation_makes_the_file_for_its_owner_alone(path):
    assert rotate_srs_secrets(str(path)) == 1
    (secret,) = read_srs_secrets(str(path))
    assert len(secret) == 32
    assert path.stat().st_mode & 0o777 == 0o600


def test_rotation_puts_a_new_secret_first_and_keeps_the_last_four(path):
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o640)
    for number in range(2, KEYS_KEPT + 1):
        assert rotate_srs_secrets(str(path)) == number
    before = read_srs_secrets(str(path))
    assert before[-1] == SECRET
    assert rotate_srs_secrets(str(path)) == KEYS_KEPT
    after = read_srs_secrets(str(path))
    assert after[1:] == before[:4]
    assert after[0] not in before
    assert path.stat().st_mode & 0o777 == 0o640


def test_rotation_does_not_touch_a_broken_file(path, tmp_path):
    path.write_bytes(b"short\n")
    with pytest.raises(KeyFileError, match="not a secret"):
        rotate_srs_secrets(str(path))
    assert path.read_bytes() == b"short\n"
    assert list(tmp_path.iterdir()) == [path]


class TestKeys:
    def settings(self, tmp_path, **forwarding):
        return built_in_defaults().model_copy(
            update={"ticket_key_file": str(tmp_path / "ticket.keys"), "forwarding": Forwarding(**forwarding)}
        )

    def test_no_file_of_secrets_is_read_without_srs(self, tmp_path):
        (tmp_path / "ticket.keys").write_bytes(b"A" * 43 + b"=\n")
        settings = self.settings(tmp_path)
        keys = read_all_keys(settings)
        assert keys == Keys((b"A" * 43 + b"=",))
        assert sender_rewriter(settings, keys, lambda: 0.0) is None

    def test_secrets_and_domain_make_a_rewriter(self, tmp_path, path):
        (tmp_path / "ticket.keys").write_bytes(b"A" * 43 + b"=\n")
        path.write_bytes(SECRET + b"\n")
        settings = self.settings(
            tmp_path, srs_domain="srs.example.org", srs_secret_file=str(path), srs_longest_local_part=40
        )
        keys = read_all_keys(settings)
        rewriter = sender_rewriter(settings, keys, lambda: 0.0)
        assert rewriter.reverse(rewriter.forward("a@example.net")) == "a@example.net"
        assert "40 are allowed" in rewriter.forward(f"{'a' * 20}@example.net").reason

    def test_no_key_shows_when_keys_are_logged(self):
        assert repr(Keys((SECRET,), (SECRET,))) == "Keys()"
