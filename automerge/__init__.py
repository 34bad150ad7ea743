"""automerge finds the best merges of language models by itself.

Sources are combined by a recipe drawn from a space, merged by methods into a resident model, evaluated on
tasks at a fidelity, logged item by item, proposed anew by an optimizer in a search over runners, told as a
Pareto report and exported as a surrogate benchmark.

Importing this package imports no heavy library; each stage lives in the module of its name.
"""

from automerge.recipe import Fusion, Input, OutputLayer, Recipe
from automerge.records import Evaluation, Objective, Proposal, Query, Slice, Trial

__version__ = "0.1.0"

__all__ = [
    "Evaluation",
    "Fusion",
    "Input",
    "Objective",
    "OutputLayer",
    "Proposal",
    "Query",
    "Recipe",
    "Slice",
    "Trial",
    "__version__",
]
