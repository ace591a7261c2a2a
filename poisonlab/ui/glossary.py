"""The glossary, where pages look for it."""

from poisonlab.words.glossary import define, help_for, label

__all__ = ["define", "help_for", "label"]
