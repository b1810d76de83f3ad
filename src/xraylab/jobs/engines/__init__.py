"""The engines that run commands on other machines, each in a module of its own."""
