"""Experiments side by side, over dvc's own `dvc repro --single-item`."""
