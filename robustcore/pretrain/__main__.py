"""``python -m robustcore.pretrain``: see ``command``."""

import sys

from robustcore.pretrain.command import main

if __name__ == "__main__":
    sys.exit(main())
