"""Metrics from predictions: numpy, scipy and scikit-learn, never torch."""
