"""Stored outputs of the original models, and the program that compares ours with them."""
