"""open_clip without transformers: it takes five seconds to import, in every process, for models that are not ours.

open_clip imports transformers where it is installed, for CoCa's captions and for text towers of the Hugging Face hub.
Import open_clip from here, first of all.
"""

import sys

_absent = "transformers" not in sys.modules
if _absent:
    sys.modules["transformers"] = None  # type: ignore[assignment]  # what Python itself means by it: not to be found
try:
    import open_clip
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
finally:
    if _absent:
        del sys.modules["transformers"]

__all__ = ["ResidualAttentionBlock", "VisionTransformer", "open_clip"]
