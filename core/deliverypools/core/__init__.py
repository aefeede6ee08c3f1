"""The decision, as pure code: facts about one message in, a pool with its rule and reasons out.

Nothing here opens a socket or a file, reads a clock or the environment, or writes a log; the shells
(`deliverypools.milter`, `deliverypools.policy`) do that and hand over what they found.
"""
