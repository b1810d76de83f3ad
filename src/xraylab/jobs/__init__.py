"""Experiments side by side, over `dvc repro --single-item`; and the table of DVC's experiments."""
