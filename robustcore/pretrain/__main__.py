"""``python -m robustcore.pretrain``: see ``command``."""

import sys

from robustcore.pretrain.command import main

sys.exit(main())
