"""Searches over settings: Optuna says what to try, and each trial is a DVC experiment."""
