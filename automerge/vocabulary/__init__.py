"""Tokenizers of several sources as one vocabulary, and sources with their rows in its order."""
