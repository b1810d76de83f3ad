"""Audit of files, pictures, labels and patients."""
