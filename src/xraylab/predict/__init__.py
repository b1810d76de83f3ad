"""Class probabilities from kept weights."""
