"""Figures from predictions: numpy and scikit-learn, never torch."""
