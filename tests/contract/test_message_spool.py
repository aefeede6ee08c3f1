"""A whole message in bounded memory and on disk: what scanners and copies are given, and what a full disk does."""

import mmap
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from deliverypools.adapters.message_spool import MessageSpool

IN_MEMORY = 64 * 1024
PLENTY = 10_000_000
FIELD = b"A: b\n\n"

GATHER = """
import resource, signal, sys
from deliverypools.adapters.message_spool import MessageSpool

limit, sizes = int(sys.argv[1]), [int(size) for size in sys.argv[2:]]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
spool = MessageSpool(10_000_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for size in sizes:
    spool.add_body(b"x" * size)
print(spool.size_bytes)
for ask in (spool.view, spool.finish, spool.view):
    try:
        ask()
        print("gathered")
    except OSError as error:
        print(error.strerror)
spool.close()
"""


def spool_of(body=b"", most_bytes=PLENTY, chunk_bytes=65_535, headers=(("A", "b"),)):
    spool = MessageSpool(most_bytes)
    for name, value in headers:
        spool.add_header(name, value)
    for start in range(0, len(body), chunk_bytes):
        spool.add_body(body[start : start + chunk_bytes])
    return spool


def view_of(*arguments, **keywords):
    with spool_of(*arguments, **keywords) as spool:
        return bytes(spool.view())


def files_open():
    return len(list(Path("/proc/self/fd").iterdir()))


class TestSizes:
    @pytest.mark.parametrize("size", [0, 1, 1000, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 7])
    @pytest.mark.parametrize("chunk_bytes", [1000, 65_535])
    def test_a_message_of_any_size_is_all_there(self, size, chunk_bytes):
        body = bytes(number % 251 for number in range(size - len(FIELD))) if size > len(FIELD) else b""
        body = body.replace(b"\r", b"r")
        with spool_of(body, chunk_bytes=chunk_bytes) as spool:
            view = spool.view()
            assert (view[:], spool.size_bytes, spool.is_full) == (FIELD + body, len(FIELD + body), False)
            assert isinstance(view, mmap.mmap if size > IN_MEMORY else bytes)

    @pytest.mark.parametrize("most_bytes", [7, 1000, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, 2 * IN_MEMORY])
    @pytest.mark.parametrize("excess", [-1, 0, 1, 5000])
    def test_what_is_longer_is_cut_and_says_so(self, most_bytes, excess):
        whole = FIELD + b"x" * (most_bytes + excess - len(FIELD))
        with spool_of(whole[len(FIELD) :], most_bytes, chunk_bytes=777) as spool:
            assert spool.view()[:] == whole[:most_bytes]
            assert spool.size_bytes == len(whole)
            assert spool.is_full is spool.finish().is_cut is (excess > 0)

    def test_the_head_is_cut_too(self):
        with spool_of(b"body", 10, headers=[("Subject", "x" * 100_000), ("To", "y")]) as spool:
            assert spool.view() == b"Subject: x"
            assert spool.size_bytes == len("Subject: \nTo: y\n\nbody") + 100_000

    def test_line_ends_count_as_they_are_kept(self):
        body = b"x\r\n" * 1000
        with spool_of(body, len(FIELD) + 2000) as spool:
            spool.end()
            assert (spool.size_bytes, spool.is_full) == (len(FIELD) + 2000, False)

    def test_without_header_and_body_it_is_an_empty_line(self):
        assert view_of(headers=()) == b"\n"

    def test_only_what_is_large_takes_a_file(self):
        before = files_open()
        with spool_of(b"x" * 1000):
            assert files_open() == before
        with spool_of(b"x" * 100_000):
            assert files_open() == before + 1
        assert files_open() == before


class TestView:
    @pytest.mark.parametrize("size", [1000, 200_000])
    def test_it_can_be_read_after_the_spool_is_closed(self, size):
        spool = spool_of(b"x" * size + b"end")
        view = spool.view()
        spool.close()
        spool.close()
        assert len(view) == len(FIELD) + size + 3
        assert (view[:7], view[-4:]) == (b"A: b\n\nx", b"xend")
        assert memoryview(view)[-3:] == b"end"

    def test_its_file_is_gone_with_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        before = files_open()
        spool = spool_of(b"x" * 200_000)
        view = spool.view()
        assert list(tmp_path.iterdir()) == []
        spool.close()
        view.close()
        assert files_open() == before

    def test_nobody_can_write_into_it(self):
        with pytest.raises(TypeError):
            spool_of(b"x" * 200_000).view()[0] = 0

    @pytest.mark.parametrize("size", [1000, 200_000])
    def test_scanners_and_a_copy_get_the_same(self, size):
        with spool_of(b"\xe9\r\n" + b"x" * size + b"\r") as spool:
            first = spool.view()
            content = spool.finish()
            assert content.file.read() == first[:] == spool.view()[:]
            assert (content.has_8_bit, content.is_cut) == (True, False)
            assert first[-2:] == b"x\r"


class TestContent:
    @pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 4096])
    def test_line_ends_become_lf_however_the_body_is_cut(self, chunk_bytes):
        body = b"\r\none\r\n\r\n\r\r\ntwo\rthree\n\n.\r\nlast\r"
        assert view_of(body, chunk_bytes=chunk_bytes) == FIELD + b"\none\n\n\r\ntwo\rthree\n\n.\nlast\r"

    @pytest.mark.parametrize("size", [IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1])
    def test_a_line_end_where_the_file_begins(self, size):
        spool = spool_of(b"x" * (size - len(FIELD) - 1))
        spool.add_body(b"\r")
        spool.add_body(b"")
        spool.add_body(b"\ny")
        assert spool.view()[-3:] == b"x\ny"
        assert spool.size_bytes == size + 1

    def test_a_cut_between_cr_and_lf_leaves_no_cr(self):
        assert view_of(b"ab\r\ncd", len(FIELD) + 3, chunk_bytes=3) == FIELD + b"ab\n"

    def test_bytes_of_any_kind_stay_as_they_are(self):
        body = bytes(range(256)).replace(b"\r", b"") * 2
        assert view_of(body, chunk_bytes=100) == FIELD + body

    def test_8_bit_header_fields(self):
        headers = [
            ("Subject", "caf\udce9 \udcff"),
            ("To", "Gr\u00fc\u00dfe \N{SNOWMAN}"),
            ("X-Bad", "\ud800\udce9"),
            ("X-\u00c9", "y"),
        ]
        with spool_of(headers=headers) as spool:
            assert spool.view() == (
                b"Subject: caf\xe9 \xff\nTo: "
                + "Gr\u00fc\u00dfe \N{SNOWMAN}".encode()
                + b"\nX-Bad: ??\nX-"
                + "\u00c9".encode()
                + b": y\n\n"
            )
            assert spool.finish().has_8_bit

    @pytest.mark.parametrize(
        ("headers", "body", "has_8_bit"),
        [
            ([("A", "b")], b"plain", False),
            ([("A", "\udce9")], b"plain", True),
            ([("A", "b")], b"pl\xe4in", True),
        ],
    )
    def test_tells_whether_it_has_8_bit_bytes(self, headers, body, has_8_bit):
        with spool_of(body, headers=headers) as spool:
            assert spool.finish().has_8_bit is has_8_bit

    def test_folded_fields_stay_folded(self):
        headers = [("A", "b\n\tc\r\n d"), ("E", "f\n"), ("G", ""), ("H", "\n\n i")]
        assert view_of(headers=headers) == b"A: b\n\tc\n d\nE: f\nG: \nH: \n\t\n i\n\n"

    @pytest.mark.parametrize(
        ("name", "value"),
        [("A", "b\nBcc: c"), ("A", "b\r\nBcc: c"), ("A", "b\n\nBcc: c"), ("A\nBcc", "c"), ("A: b\r\nBcc", "c")],
    )
    def test_no_field_writes_another_or_ends_the_head(self, name, value):
        lines = view_of(b"body", headers=[(name, value), ("D", "e")]).split(b"\n")
        assert lines[-3:] == [b"D: e", b"", b"body"]
        assert not any(line.startswith(b"Bcc") for line in lines)
        assert lines.index(b"") == len(lines) - 2

    @pytest.mark.parametrize(
        "name",
        [
            "X-Delivery-Pool",
            "x-delivery-pool-ticket",
            "X-DELIVERY-POOL-TICKET",
            "X-Delivery-Pool ",
            "X-Delivery-\0Pool",
        ],
    )
    def test_ours_are_left_out_and_do_not_count(self, name):
        with spool_of(headers=[("A", "b"), (name, "s3cret\n\ts3cret"), ("C", "d")]) as spool:
            assert spool.view() == b"A: b\nC: d\n\n"
            assert spool.size_bytes == len(b"A: b\nC: d\n\n")

    @pytest.mark.parametrize("name", ["X-Delivery-Pool-DSN", "X-Delivery-Pools", "X-Delivery-Pool-Ticket-2", "Ticket"])
    def test_others_stay(self, name):
        assert view_of(headers=[(name, "x")]) == f"{name}: x\n\n".encode()

    @pytest.mark.parametrize(
        ("name", "is_copy"),
        [("x-delivery-pool-COPY", True), ("X-Delivery-Pool-Copies", False), ("Copy", False)],
    )
    def test_tells_whether_it_is_a_copy_itself(self, name, is_copy):
        assert spool_of(headers=[("A", "b"), (name, "spam"), ("C", "d")]).is_copy is is_copy

    @pytest.mark.timeout(30)
    def test_a_huge_field_of_line_ends(self):
        for value in ("\n" * 1_000_000, "\r\n" * 500_000, "\n\t" * 500_000, "\r" * 1_000_000):
            assert len(view_of(headers=[("A", value)])) <= 2 * len(value) + 10

    @pytest.mark.timeout(30)
    def test_a_body_a_byte_at_a_time(self):
        assert len(view_of(b"\r\n" * 100_000, chunk_bytes=1)) == len(FIELD) + 100_000


class TestFullDisk:
    """A limit of RLIMIT_FSIZE stands for the disk: write(2) fails in the same way, with another error number."""

    @pytest.mark.parametrize(
        ("limit", "sizes", "problem"),
        [
            (0, [100_000], "No usable temporary directory found in"),
            (1000, [100_000], "File too large"),
            (100_000, [65_000, 65_000, 65_000], "File too large"),
            # Where what is written waits in a buffer, and fails when it is read.
            (65_600, [65_536, 100], "File too large"),
            (66_000, [66_000, *[100] * 50], "File too large"),
        ],
    )
    def test_it_is_told_at_the_end_only_and_each_time(self, limit, sizes, problem):
        arguments = [sys.executable, "-c", GATHER, str(limit), *map(str, sizes)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        size, *answers = done.stdout.splitlines()
        assert int(size) == 1 + sum(sizes)
        assert [answer[: len(problem)] for answer in answers] == [problem] * 3

    def test_what_stays_in_memory_needs_no_disk(self):
        arguments = [sys.executable, "-c", GATHER, "0", "65000"]
        # What it prints goes through a pipe, which has no limit.
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout.splitlines(), done.stderr) == (["65001", *["gathered"] * 3], "")

    def test_a_folder_for_temporary_files_that_is_gone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        assert len(view_of(b"x" * 1000)) == 1000 + len(FIELD)
        before = files_open()
        with spool_of(b"x" * 200_000) as spool:
            spool.add_body(b"more")
            for ask in (spool.view, spool.finish, spool.view):
                with pytest.raises(FileNotFoundError):
                    ask()
            assert spool.size_bytes == 200_004 + len(FIELD)
        assert files_open() == before
