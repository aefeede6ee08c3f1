"""Who an Authentication-Results field is from, read in full: slow, but without limits on what a name may consist of.

What is found here must be found by `claims`, which gives up early.
"""

import re
import unicodedata

from deliverypools.core.addresses import normalise_domain

UNSEEN = {"Cc", "Cf", "Cs", "Cn", "Co", "Zs", "Zl", "Zp"}
PART = r'(?:[^ \t\r\n\v\f()<>@,;:\\"/\[\]?=]++|"(?:[^"\\]|\\.)*+")++'
IDENTIFIER = re.compile(
    rf"[ \t\r\n\v\f)<>@,;:/\[\]?=]*+({PART}(?:(?:(?<=\.)\s++|\s++(?=\.)){PART}){{0,10}})", re.DOTALL
)


def claims_in_full(value, authserv_id):
    """Whether any way to read the first 4000 characters gives that id, or they do not tell."""
    text, is_whole = without_comments(value)
    found = IDENTIFIER.match(text)
    end = found.end() if found else len(re.match(r"[ \t\r\n\v\f)<>@,;:/\[\]?=]*", text)[0])
    if (end == len(text) and not is_whole) or text[end : end + 1] == '"' or "=?" in text.partition(";")[0]:
        return True
    if not found:
        return False
    written = re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL).replace('"', "")
    parts = written.split()
    readings = ["".join(parts[:count]) for count in range(1, len(parts) + 1)]
    readings.append(re.split(" ", "".join(" " if unicodedata.category(c) in UNSEEN else c for c in written))[0])
    names = ["".join(c for c in reading if unicodedata.category(c) not in UNSEEN) for reading in readings]
    return any(len(name) > 255 for name in names) or normalise_domain(authserv_id) in {
        normalise_domain(unicodedata.normalize("NFKC", name)) for name in names
    }


def without_comments(value):
    """The first 4000 characters with a blank for each comment, and whether that is all."""
    text = value[:4000]
    kept, depth, at = "", 0, 0
    while at < len(text):
        quoted = None if depth else re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL).match(text, at)
        if quoted:
            kept += quoted[0]
            at = quoted.end()
            continue
        is_escape = text[at] == "\\" and at + 1 < len(text)
        if is_escape:
            at += 1
        elif text[at] == "(":
            depth += 1
            kept += " " if depth == 1 else ""
        if not depth:
            kept += text[at]
        if text[at] == ")" and not is_escape:
            depth = max(0, depth - 1)
        at += 1
    return kept, not depth and len(value) <= len(text)
