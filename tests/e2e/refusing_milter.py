"""A milter of the site's own: refuses messages whose header says so. `python refusing_milter.py SOCKET`."""

import sys

import Milter


class Refusing(Milter.Base):
    def header(self, name, value):
        self.refuses = getattr(self, "refuses", False) or name == "X-Refuse-Me"
        return Milter.CONTINUE

    def envfrom(self, sender, *parameters):
        self.refuses = False
        return Milter.CONTINUE

    def eom(self):
        return Milter.REJECT if self.refuses else Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Refusing
    Milter.runmilter("refusing", sys.argv[1], timeout=0)
