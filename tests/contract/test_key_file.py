"""The key file on a real disk: reading, rotating, and what is said when it is wrong."""

import os

import pytest
from cryptography.fernet import Fernet

from deliverypools.adapters.key_file import read_keys, rotate_keys
from deliverypools.adapters.key_lines import KEYS_KEPT, KeyFileError

KEY = Fernet.generate_key()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ticket.keys"


def test_keys_are_read_newest_first(path):
    keys = [Fernet.generate_key(), Fernet.generate_key()]
    path.write_bytes(b"# made by hand\n\n" + keys[0] + b"  \r\n" + keys[1])
    assert read_keys(str(path)) == tuple(keys)


def test_a_missing_file_says_how_to_make_it(path):
    with pytest.raises(KeyFileError, match=r"ticket\.keys: no such file; make it with: delivery-pools keys rotate"):
        read_keys(str(path))


def test_a_file_without_a_key_says_how_to_make_one(path):
    path.write_text("# nothing yet\n", encoding="ascii")
    with pytest.raises(KeyFileError, match=r"ticket\.keys: holds no key"):
        read_keys(str(path))


@pytest.mark.parametrize("line", [b"nonsense", b"A" * 44, b"=" * 44, KEY[:-2]], ids=["text", "long", "empty", "short"])
def test_a_line_that_is_no_key_is_named(path, line):
    path.write_bytes(Fernet.generate_key() + b"\n# second\n" + line + b"\n")
    with pytest.raises(KeyFileError, match=r"ticket\.keys:3: not a key"):
        read_keys(str(path))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\xc3\xa9\n"])
def test_a_file_that_is_not_ascii_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"ticket\.keys: 'ascii' codec"):
        read_keys(str(path))


def test_a_folder_is_refused(path):
    path.mkdir()
    with pytest.raises(KeyFileError, match="Is a directory"):
        read_keys(str(path))


def test_no_message_tells_a_key(path):
    key = Fernet.generate_key()
    path.write_bytes(key + b"\n" + key[:-2] + b"\n")
    with pytest.raises(KeyFileError) as caught:
        read_keys(str(path))
    assert key[:10].decode() not in str(caught.value)


def test_the_first_rotation_makes_the_file_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "ticket.keys"
    assert rotate_keys(str(path)) == 1
    assert len(read_keys(str(path))) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_rotation_puts_a_new_key_first_and_keeps_the_last_four(path):
    for _ in range(KEYS_KEPT):
        rotate_keys(str(path))
    before = read_keys(str(path))
    assert rotate_keys(str(path)) == KEYS_KEPT
    after = read_keys(str(path))
    assert after[1:] == before[:4]
    assert after[0] not in before


def test_rotation_keeps_mode_and_owner(path):
    rotate_keys(str(path))
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    before = path.stat()
    rotate_keys(str(path))
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_rotation_leaves_no_other_file(path, tmp_path):
    rotate_keys(str(path))
    rotate_keys(str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_rotation_does_not_touch_a_broken_file(path, tmp_path):
    path.write_text("nonsense\n", encoding="ascii")
    with pytest.raises(KeyFileError, match="not a key"):
        rotate_keys(str(path))
    assert path.read_text(encoding="ascii") == "nonsense\n"
    assert list(tmp_path.iterdir()) == [path]


def test_rotation_where_no_file_can_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyFileError, match=r"ticket\.keys: .*Not a directory|File exists"):
        rotate_keys(str(tmp_path / "file" / "ticket.keys"))
