"""Assign images to train, validation and test."""
