"""The report of multi-label studies, in which an image can have several findings."""
