"""`python -m tests.cluster`: the chart and the images in a real cluster with KEDA, from install to uninstall.

Creates a namespace of its own and removes it in every case. Needs helm, a kube-context, KEDA 2.20.1 or newer, and
images that the cluster can pull; no GPU: the encoder is synthetic. For kind, with images that are loaded:

    python -m tests.cluster --context kind-kind --set image.registry=localhost --set image.tag=0.1.0

Exits with 0 if every step passed, with 1 if not, with 2 if it could not start.
"""

import argparse
import signal
import sys
import tempfile
import uuid
from pathlib import Path

from rich.console import Console

from tests.cluster import steps
from tests.cluster.helm import Helm, HelmError
from tests.cluster.kubernetes_api import Api, ApiError
from tests.cluster.release import Release
from tests.cluster.scenario import Scenario
from tests.cluster.steps import Failed, Outcome
from tests.cluster.waiting import TimedOut, wait_until
from videoanalysis.scaling.cluster import ClusterError

CHART = Path(__file__).parents[2] / "helm" / "video-analysis"
_EXPECTED = (Failed, TimedOut, HelmError, ApiError, ClusterError)
_REMOVAL_SECONDS = 420


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--context", help="of the kubeconfig; default: the current one")
    parser.add_argument("--namespace", help="must not exist yet; default: a new name")
    parser.add_argument("--release", default="va", help="default: %(default)s")
    parser.add_argument("--chart", type=Path, default=CHART, help="default: the one of this checkout")
    parser.add_argument(
        "--values",
        type=Path,
        action="append",
        default=[],
        help="file of values; comes after values-local.yaml and ours",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="as helm takes it; comes last"
    )
    parser.add_argument("--helm", default="helm", help="the binary; default: %(default)s")
    parser.add_argument("--encoders", type=int, default=3, help="to scale to, 2 or more; default: %(default)s")
    parser.add_argument("--concurrency", type=int, default=4, help="calls at a time; default: %(default)s")
    parser.add_argument("--patience", type=float, default=1.0, help="multiplies time limits; default: %(default)s")
    parser.add_argument("--keep", action="store_true", help="stop at a step that fails, and leave everything as it is")
    chosen = parser.parse_args(arguments)
    if chosen.encoders < 2:
        parser.error("--encoders: must be at least 2, because the run starts with one")
    if chosen.concurrency < 1 or chosen.patience <= 0:
        parser.error("--concurrency and --patience: more than 0")
    return chosen


def main() -> int:
    chosen = options()
    console = Console(soft_wrap=True)
    namespace = chosen.namespace or f"video-analysis-test-{uuid.uuid4().hex[:6]}"
    try:
        api = Api(chosen.context)
        if api.find(f"/api/v1/namespaces/{namespace}") is not None:
            print(f"error: namespace {namespace} exists; a run creates and removes its own", file=sys.stderr)
            return 2
    except ApiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    helm = Helm(chosen.helm, chosen.context, namespace, chosen.release, chosen.chart, chosen.values, chosen.settings)
    release = Release(api, namespace, chosen.release)
    # SystemExit runs the clean-up below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as directory:
        scenario = Scenario(
            helm,
            api,
            release,
            Path(directory),
            context=chosen.context,
            encoders=chosen.encoders,
            concurrency=chosen.concurrency,
            patience=chosen.patience,
        )
        try:
            run = steps.carry_out(
                scenario.steps(),
                _EXPECTED,
                on_begin=lambda step: console.print(f"{step.name} …", highlight=False, markup=False),
                on_failure=lambda: _diagnose(console, scenario, release),
            )
            for outcome in run:
                outcomes.append(outcome)
                line = f"  {outcome.result} after {outcome.seconds:.1f} s: {outcome.note}"
                console.print(line, highlight=False, markup=False)
                if chosen.keep and outcome.result == "failed":
                    break
        except KeyboardInterrupt:
            console.print("interrupted")
        finally:
            missed = scenario.steps()[len(outcomes) :]
            outcomes += [Outcome(step.name, "skipped", 0.0, "not reached") for step in missed]
            code = steps.exit_code(outcomes)
            if chosen.keep and code:
                console.print(f"kept (--keep): namespace {namespace}", highlight=False)
            else:
                code = max(code, _clean_up(console, scenario, helm, api, namespace))
            steps.show(console, outcomes)
    return code


def _diagnose(console: Console, scenario: Scenario, release: Release) -> None:
    """Prints the state that an operator would check first."""
    try:
        for explanation in scenario.explanations():
            console.print(
                f"    {explanation.service}: {explanation.ready} of {explanation.replicas} ready", markup=False
            )
            for finding in explanation.findings:
                console.print(f"      {'!' if finding.is_wrong else '·'} {finding.text}", highlight=False, markup=False)
            console.print(f"      → {explanation.next}", highlight=False, markup=False)
        for warning in release.warnings():
            console.print(f"    {warning}", highlight=False, markup=False)
    except _EXPECTED as error:
        console.print(f"    no further diagnosis: {error}", highlight=False, markup=False)


def _clean_up(console: Console, scenario: Scenario, helm: Helm, api: Api, namespace: str) -> int:
    """Returns 1 if something may be left behind. Every part is attempted even if another fails."""
    path = f"/api/v1/namespaces/{namespace}"

    def is_gone() -> tuple[bool, str]:
        found = api.find(path)
        messages = [each.get("message") or "" for each in ((found or {}).get("status") or {}).get("conditions") or ()]
        return found is None, " ".join(messages) or "it is being removed"

    def remove_namespace() -> None:
        api.delete(path)
        wait_until(f"namespace {namespace} to be gone", is_gone, _REMOVAL_SECONDS, every=2)

    code = 0
    console.print("cleaning up …")
    # The release first: KEDA removes its finalizers while the ScaledObjects are deleted.
    for part in (scenario.close, lambda: helm.uninstall(_REMOVAL_SECONDS), remove_namespace):
        try:
            part()
        except _EXPECTED as error:
            console.print(f"  {error}", highlight=False, markup=False)
            code = 1
    if code:
        console.print(f"  possibly left behind: kubectl delete namespace {namespace}", highlight=False, markup=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
