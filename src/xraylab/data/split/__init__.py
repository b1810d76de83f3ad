"""Who trains, who chooses the epoch, and who is only tested."""
