"""What scanners are told of a message, how their answers are read, and what follows: rspamd, SpamAssassin, ClamAV."""
