"""Serve trained models to a browser and to other programs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()
PANEL = "Use trained models"
LIMITS = "Limits"


@app.command(rich_help_panel=PANEL)
def serve(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|BUNDLE", help="A run, such as baseline/0, or a bundle; two of them are compared."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="XRAYLAB_TOKEN", help="Required of every request; other users see an option, so prefer the variable."
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate in PEM, with which the server speaks HTTPS; needs --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of the certificate, in PEM.")] = None,
    point: Annotated[
        str | None, typer.Option(help="Operating point, by a part of its name; by default the highest Youden index.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 and so on; by default that of training where it is fast here.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that decode images.")] = 2,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Images that the network computes at once.")] = 32,
    wait: Annotated[float, typer.Option(min=0, max=1000, help="Milliseconds that a batch waits for more images.")] = 5,
    body: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="MiB of one request.")] = 64,
    megapixels: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="Of one image, in millions.")] = 40,
    files: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="Images in one request.")] = 64,
    rate: Annotated[
        int, typer.Option(min=0, rich_help_panel=LIMITS, help="Requests of one client in a minute; 0: any number.")
    ] = 600,
    seconds: Annotated[float, typer.Option(min=1, rich_help_panel=LIMITS, help="To read and answer one request.")] = 60,
    queue: Annotated[int, typer.Option(min=1, rich_help_panel=LIMITS, help="Requests at once, waiting ones too.")] = 64,
) -> None:
    """Serve one or two models: a web page and an HTTP API (docs/serve.md). For research, not for diagnosis."""
    from xraylab.errors import MissingError, ParamsError

    try:
        from xraylab.inference import bundle
        from xraylab.integrity.check import require_run
        from xraylab.paths import Paths
        from xraylab.serve import models, server
        from xraylab.serve.guard import Guard
        from xraylab.serve.limits import Limits
        from xraylab.serve.tls import Tls
    except ModuleNotFoundError as error:
        if error.name not in ("prometheus_client", "python_multipart", "starlette", "uvicorn"):
            raise
        raise MissingError(f"serve needs {error.name}, which is not installed: pip install 'xraylab[serve]'") from None

    if len(sources) > 2:
        raise ParamsError(f"serve takes one model, or two to compare, and not {len(sources)}")
    for source in sources:
        if not source.endswith(bundle.SUFFIX):
            paths = Paths.here()
            require_run(paths, source, paths.evaluation)
    limits = Limits(body=body, megapixels=megapixels, files=files, rate=rate, seconds=seconds, queue=queue)
    guard, tls = Guard(host, token, rate), Tls.checked(certificate, key)
    each = [models.find(source, precision) for source in sources]
    server.run(each, guard, port, point, limits, workers, models.Batching(batch, wait / 1000), print, tls)
