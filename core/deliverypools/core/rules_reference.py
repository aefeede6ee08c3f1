"""docs/rules.md, made from the rules themselves."""

from __future__ import annotations

import inspect

from deliverypools.core.decisions import UNDECIDED
from deliverypools.core.rules import RULES, rule_name

_HEAD = """\
# Rules

Asked in this order; the first that matches chooses the pool. The name is in the log, and in `delivery-pools classify`.
A rule that cannot tell now leaves the message undecided, unless every outcome leads to the same pool.
This page is made from the code (`make docs`).
"""

_TAIL = f"""
## {UNDECIDED}

No rule, but the name of what could not be decided: the message waits in the queue, and leaves by high-risk after
`milter.undecided_after`, or at once where nothing tells how long it has waited.
"""


def rules_reference() -> str:
    """Return the page as Markdown."""
    sections = [
        f"\n## {number}. {rule_name(rule)}\n\n{inspect.getdoc(rule)}\n" for number, rule in enumerate(RULES, start=1)
    ]
    return _HEAD + "".join(sections) + _TAIL
