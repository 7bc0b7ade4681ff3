"""The commands that tell what models there are, and what one is made of."""

import click

_size = click.option("--size", default="320", show_default=True, help="pixels of the images: 320, or 320x256")
_targets = click.option(
    "--targets", type=click.IntRange(min=1), default=14, show_default=True, help="how many outputs"
)
_as_json = click.option("--json", "as_json", is_flag=True, help="one JSON object, for machines")


@click.group(invoke_without_command=True)
@_size
@_targets
@_as_json
@click.pass_context
def models(context: click.Context, size: str, targets: int, as_json: bool) -> None:
    """List the models, or describe one.

    Without a command: each model that net_name can name, with its default settings, its parameters, what
    goes in and what comes out.
    """
    if context.invoked_subcommand:
        for name in context.params:
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
                flag = f"--{name.removeprefix('as_')}"
                raise click.UsageError(f"{flag} belongs behind {context.invoked_subcommand}, not before it.")
        return
    import json

    from hilum.models.describe import list_models, timm_version

    found, problems = list_models(outputs=targets, image_size=_image_size(size))
    if as_json:
        shown = [model.as_record() for model in found]
        click.echo(json.dumps({"models": shown, "left_out": problems, "timm": timm_version()}))
        return
    from hilum.report.models import show_models

    show_models(found, problems, timm_version())


@models.command()
@click.argument("name")
@_size
@_targets
@click.option("--net-kwargs", default="{}", help="the model's own settings, such as '{layers = 34}'")
@_as_json
def describe(name: str, size: str, targets: int, net_kwargs: str, as_json: bool) -> None:
    """Show each layer of a model.

    NAME is a net_name, timm:NAME included. Shown are each layer's output shape and parameters, how these add
    up, and where convolution meets fully connected. It needs no data, no pretrained weights and next to no
    time: nothing is computed.
    """
    import json

    from hilum.cli.settings import parse_setting
    from hilum.config import RunConfig

    kwargs = RunConfig(net_kwargs=parse_setting("net_kwargs", net_kwargs)).net_kwargs
    from hilum.models.describe import describe_model

    described = describe_model(name, kwargs, outputs=targets, image_size=_image_size(size))
    if as_json:
        click.echo(json.dumps(described.as_record()))
        return
    from hilum.report.models import show_model

    show_model(described)


def _image_size(size: str) -> tuple[int, int]:
    """Width and height, from `320` or `320x256`."""
    from hilum.config import RunConfig
    from hilum.errors import HilumError

    numbers = size.lower().split("x")
    if len(numbers) > 2 or not all(number.strip().isdecimal() for number in numbers):
        raise HilumError(f"--size {size!r}: give pixels, 320, or width and height, 320x256.")
    chosen = RunConfig(image_width=int(numbers[0]), image_height=int(numbers[-1]))
    return chosen.image_width, chosen.image_height
