"""Prints a table of the network before a training."""

from typing import Any

from pytorch_lightning.callbacks import RichModelSummary
from pytorch_lightning.utilities.model_summary import get_human_readable_count

_DOWN_TO_HEAD = 3
"""How many levels the name ``segmentor.network.sem_seg_head`` has."""


class Summary(RichModelSummary):
    """Prints Lightning's table of modules, without those that learn nothing, down to backbone and head.

    It does not count operations: Lightning needs an example input for that, and there is none.
    """

    def __init__(self) -> None:
        super().__init__(max_depth=_DOWN_TO_HEAD)

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        *_: Any,
        **__: Any,
    ) -> None:
        """Print one row for each module, and how many parameters are trained."""
        from rich import get_console
        from rich.table import Table

        columns = {name.strip(): values for name, values in summary_data}
        names = columns["Name"]
        table = Table()
        for name, justify in (("Name", "left"), ("Type", "left"), ("Params", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich's own Literal
        for row in zip(names, columns["Type"], columns["Params"], strict=True):
            has_parts = any(name.startswith(f"{row[0]}.") for name in names)
            if not has_parts and row[2].strip() != "0":
                table.add_row(*row)
        console = get_console()
        console.print(table)
        trained, total = (get_human_readable_count(count).strip() for count in (trainable_parameters, total_parameters))
        console.print(f"{trained} of {total} parameters are trained", highlight=False)
