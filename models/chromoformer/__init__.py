"""Chromoformer: marks around a TSS and in the regions that touch it -> expression."""
