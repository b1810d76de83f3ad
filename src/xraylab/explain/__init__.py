"""Where a network looks, whether that is where the finding is, and what it could do without looking there."""
