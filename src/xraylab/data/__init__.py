"""From raw files to split tables and a memory-mapped cache of pixels."""
