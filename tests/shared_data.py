"""Where some tests find real data and models: beside the checkout, or in HF_SER_SHARED."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("HF_SER_SHARED") or Path(__file__).parents[2] / "shared")
