"""Lenses: subjects, states, fitting, transfer evaluation. The only room that imports torch."""
