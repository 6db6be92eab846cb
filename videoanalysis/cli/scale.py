"""`videoanalysis scale`: why a cluster runs as many replicas as it does."""

from enum import StrEnum
from typing import Annotated

import typer

from videoanalysis.cli import options, runner, terminal
from videoanalysis.cli.command import CONTEXT, Command
from videoanalysis.cli.exit_code import ExitCode

app = typer.Typer(
    no_args_is_help=True, context_settings=CONTEXT, help="Why a cluster runs as many replicas as it does."
)


class Service(StrEnum):
    INGRESS = "ingress"
    ENCODER = "encoder"
    DECODER = "decoder"


@app.callback()
def scale() -> None:
    """A callback keeps `explain` a subcommand although it is the only one."""


@app.command("explain", cls=Command)
def explain(
    services: Annotated[
        list[Service] | None,
        typer.Argument(metavar="SERVICE", help="ingress, encoder, decoder.", show_default="all three"),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", help="Namespace of the services.", show_default="the context's"),
    ] = None,
    context: Annotated[str | None, typer.Option(help="Kubeconfig context.", show_default="the current one")] = None,
    release: Annotated[
        str | None, typer.Option(help="Name of the Helm release.", show_default="the only one in the namespace")
    ] = None,
    output: options.Output = "table",
) -> None:
    """Say why each service has the replicas it has, and what will happen next.

    Reads KEDA's ScaledObjects, the HPAs, pods and the gauges of the ingress pods through the API server, and changes
    nothing. Exits with 1 if something is wrong, with 2 if the cluster cannot be queried.
    """
    with runner.require_extra("operator", ExitCode.USAGE):
        from videoanalysis.scaling.cluster import Cluster, ClusterError
    from videoanalysis.scaling import explanation, presentation

    try:
        with Cluster(context, namespace) as cluster:
            snapshot = cluster.snapshot(services or tuple(Service), release)
    except ClusterError as error:
        runner.usage_error(str(error))
    explanations = explanation.explain(snapshot)
    if output == "json":
        typer.echo(presentation.as_json(snapshot, explanations))
    else:
        presentation.show(terminal.Output(), snapshot, explanations)
    if not all(each.is_healthy for each in explanations):
        raise typer.Exit(ExitCode.FAILED)
