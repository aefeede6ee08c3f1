"""The policy service: counts what each account sends, as Postfix accepts it."""
