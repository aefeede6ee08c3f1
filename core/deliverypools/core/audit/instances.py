"""Several Postfix instances write one mail log: whose line it is, told by its tag."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNames:
    """Under which names (syslog_name, of main.cf and of single services) the instances of a machine log."""

    own: frozenset[str]
    """Of the instance that is looked at."""
    others: frozenset[str]

    def is_anothers(self, tag: str) -> bool:
        """Tell whether a tag, "postfix-out/pool-normal/smtp", is another instance's; what nobody is called is ours."""
        name = tag.rpartition("/")[0]
        return name not in self.own and any(name == one or name.startswith(f"{one}/") for one in self.others)
