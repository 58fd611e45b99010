"""Epiformer: DNA and conservation of 98 kb -> coverage of one or several cell types in bins."""
