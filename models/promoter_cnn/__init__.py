"""Promoter CNN of epi_to_express: binned marks around a TSS -> expression."""
