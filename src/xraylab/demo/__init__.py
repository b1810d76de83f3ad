"""Synthetic chest radiographs to try the toolkit on: drawings made from random numbers, of no medical value."""

from xraylab.demo.dataset import write

__all__ = ["write"]
