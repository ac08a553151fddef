"""``python -m entitytransfer``: the same as the command ``entitytransfer``."""

import sys

from entitytransfer.cli import main

if __name__ == "__main__":
    sys.exit(main())
