"""`python -m headstart`, which `torchrun -m headstart` needs."""

import sys

from headstart.cli.main import main

sys.exit(main())
