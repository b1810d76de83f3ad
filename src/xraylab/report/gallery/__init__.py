"""The gallery: every test image with its predictions, and a threshold that can be moved."""
