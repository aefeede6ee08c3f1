"""Input and output shared by the daemons and the command line: files, the state database, DNS, the log."""
