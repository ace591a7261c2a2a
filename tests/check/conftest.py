"""The check without its trainings, for all files here."""

from check_helpers import no_training

__all__ = ["no_training"]
