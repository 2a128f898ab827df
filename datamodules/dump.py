"""``python -m datamodules.dump``: the command of ``datamodules.prior.dump``."""

import sys

from datamodules.prior.dump.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
