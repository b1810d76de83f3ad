"""Evaluation of multi-label studies: every finding as two classes, and their means."""
