"""DMARC records of a test, and the results of SPF and DKIM."""

from deliverypools.core.authentication import DkimResult, Result, SpfResult
from deliverypools.core.authentication.dmarc_records import tree_walk_names

U = "v=DMARC1; p=reject"
N = "v=DMARC1; p=reject; psd=n"
Y = "v=DMARC1; p=reject; psd=y"
NOT_TOLD = None
NO_SPF = SpfResult(result=Result.NONE)


def zone(*starts, **found):
    """Answers for all names of the walks from `starts`: nothing, but for what `found` says, with _ for each dot."""
    answers = {name: () for start in starts for name in tree_walk_names(start)}
    for domain, text in found.items():
        name = "_dmarc." + domain.replace("_", ".")
        answers[name] = None if text is None else (text,) if isinstance(text, str) else text
    return answers


def spf(domain, result=Result.PASS, identity="mailfrom"):
    return SpfResult(result=result, domain=domain, identity=identity)


def dkim(domain, result=Result.PASS):
    return DkimResult(result=result, domain=domain, selector="s")
