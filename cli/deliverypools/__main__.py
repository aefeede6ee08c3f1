"""`python -m deliverypools` is the command `delivery-pools`."""

import sys

from deliverypools.cli.main import main

sys.exit(main())
