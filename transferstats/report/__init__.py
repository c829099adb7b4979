"""Views of results: sentences, tables, figures, documents. Computes no statistics."""
