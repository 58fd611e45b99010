"""Thin entry points, one per rule, same name as the rule."""
