"""Where the real data and models lie that some tests want: beside the checkout, or where HF_SER_SHARED says."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("HF_SER_SHARED") or Path(__file__).parents[2] / "shared")
