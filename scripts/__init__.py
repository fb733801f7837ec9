"""The training and evaluation commands, one file each, as `python scripts/NAME.py` or `hf-ser NAME`; their recipes."""
