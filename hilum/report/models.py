"""Models in tables for the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hilum.models.describe import Description, Layer, Summary
from hilum.report.terminal import new_table, standard_console


def show_models(
    found: list[Summary], problems: list[str], timm: str | None, console: Console | None = None
) -> None:
    """Prints the models that can be named, one a line, and whether timm's are there.

    Args:
        found: the models.
        problems: why others are not among them, from `hilum.models.describe.list_models`.
        timm: its version, None if it is not installed.
        console: where to; standard output if left out.
    """
    console = console or standard_console()
    rows = new_table("model", "parameters", "trainable", "input", "output")
    for model in found:
        counts = (f"{number:,}" for number in (model.parameters, model.trainable))
        rows.add_row(model.name, *counts, _shape(model.input_shape), f"{model.outputs:,}")
    console.print(rows)
    console.print()
    for model in found:
        console.print(f"[bold]{model.name}[/]: {escape(model.about)}", highlight=False)
    there = f"timm {timm} is installed" if timm else "it is not installed: pip install 'hilum\\[timm]'"
    console.print(f"[bold]timm:NAME[/]: Any network of timm; {there}.", highlight=False)
    for problem in problems:
        console.print(escape(problem), highlight=False)
    console.print("\nMore on one: hilum models describe NAME", highlight=False)


def show_model(described: Description, console: Console | None = None) -> None:
    """Prints a model's layers: what each makes of what it is given, its parameters and how they add up."""
    console = console or standard_console()
    model = described.model
    width, height = model.image_size
    console.print(f"[bold]{escape(model.name)}[/]  {escape(model.about)}", highlight=False)
    if model.net_kwargs:
        given = ", ".join(f"{name} = {value!r}" for name, value in model.net_kwargs.items())
        console.print(f"with {escape(given)}", highlight=False)
    console.print(
        f"for gray images of {width} x {height} (width x height) and {model.outputs:,} outputs; shapes are "
        "channels x height x width\n",
        highlight=False,
    )
    cells = [_cells(layer) for layer in described.layers]
    first = ("", "image", _shape(model.input_shape), "", "")
    widths = [
        max(map(len, column)) for column in zip(first, *cells, ("", "", "", "parameters", ""), strict=True)
    ]
    rows = _layers_table(widths)
    rows.add_row(*first)
    for layer, row in zip(described.layers, cells, strict=True):
        if layer.meeting:
            console.print(rows)
            console.print(f"\nHere convolution meets fully connected: {layer.meeting}.\n", highlight=False)
            rows = _layers_table(widths)
        rows.add_row(*map(escape, row))
    console.print(rows)
    frozen = model.parameters - model.trainable
    console.print(
        f"\n{model.parameters:,} parameters, {f'{model.trainable:,} of them' if frozen else 'all of them'} trainable: "
        f"{_megabytes(4 * model.parameters)} in float32. One image takes {described.multiply_adds:,} multiply-adds "
        f"forward, and {_megabytes(described.activation_bytes)} of memory for what training keeps of it.",
        highlight=False,
    )


def _layers_table(widths: list[int]) -> Table:
    rows = new_table("layer", "kind", "makes", "parameters", "how many", numbers=False)
    for column, width in list(zip(rows.columns, widths, strict=True))[:4]:
        column.min_width, column.no_wrap = width, True
    rows.columns[3].justify = "right"
    return rows


def _cells(layer: Layer) -> tuple[str, ...]:
    parameters = f"{layer.parameters:,}" if layer.parameters else ""
    return layer.name, layer.kind, _shape(layer.made), parameters, layer.how


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " x ".join(f"{number:,}" for number in shape)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
