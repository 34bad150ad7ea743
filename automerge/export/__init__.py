"""A recipe as a Hugging Face folder or as a PEFT adapter."""

from automerge.export.model import Adapter, export_recipe, export_run

__all__ = ["Adapter", "export_recipe", "export_run"]
