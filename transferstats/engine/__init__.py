"""Cells, their store, and running many of them on any executor. Knows no torch and no statistics."""
