"""A milter of the site's own: `python changing_milter.py SOCKET add RECIPIENT`, or `... SOCKET header NAME VALUE`."""

import sys

import Milter


class Changing(Milter.Base):
    def eom(self):
        what, *words = sys.argv[2:]
        if what == "add":
            self.addrcpt(*words)
        else:
            self.addheader(*words)
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Changing
    Milter.set_flags(Milter.ADDRCPT | Milter.ADDHDRS)
    Milter.runmilter("changing", sys.argv[1], timeout=0)
