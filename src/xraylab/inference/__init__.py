"""A trained classifier apart from its study: the one way from an image to probabilities, a decision and warnings."""
