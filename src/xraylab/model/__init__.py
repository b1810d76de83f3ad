"""Networks, their weights and cost, losses, optimizers, schedules."""
