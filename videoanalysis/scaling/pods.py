"""Why pods of a service are not ready, and which are about to go."""

from collections.abc import Iterator

from videoanalysis.scaling.finding import Finding
from videoanalysis.scaling.phrasing import number, span, stop, when
from videoanalysis.scaling.snapshot import Snapshot, Workload

# Loading a large model takes minutes; what takes longer than the chart's startup probe allows does not come any more.
_STARTING_SECONDS = 600


def pods(workload: Workload, snapshot: Snapshot) -> Iterator[Finding]:
    """What is to be said of each; of those that are ready, nothing."""
    if workload.replica_failure:
        yield Finding("PODS_REFUSED", f"Pods cannot be made: {workload.replica_failure}", is_wrong=True)
    over = sorted((pod for pod in workload.pods if pod.is_over), key=lambda pod: pod.created)
    if over:
        last = over[-1]
        text = (
            f"{len(over)} {'pod has' if len(over) == 1 else 'pods have'} been ended and replaced, the latest of them "
            f"{last.name}, made {span((snapshot.at - last.created).total_seconds())} ago: {last.trouble}: {last.state}"
        )
        yield Finding("PODS_ENDED", f"{text}{stop(text)}")
    by_pod = {gauges.pod: gauges for gauges in snapshot.gauges}
    for pod in (pod for pod in workload.pods if not pod.is_over):
        events = f" {'; '.join(pod.events)}." if pod.events else ""
        age = (snapshot.at - pod.created).total_seconds()
        if pod.ends_at is not None:
            holds = ""
            if (gauges := by_pod.get(pod.name)) and gauges.depths:
                work = [f"{number(n)} at the {name}s" for name, n in gauges.depths.items() if n and name != "ingress"]
                holds = f", with work in progress: {', '.join(work)}" if work else ", with no work left"
            text = f"{pod.name} drains, until {when(pod.ends_at, snapshot.at)} at the latest{holds}."
            yield Finding("POD_DRAINING", text)
        elif pod.trouble:
            why = f"{pod.trouble}: {pod.state}{stop(pod.state)}"
            text = f"{pod.name}, made {span(age)} ago, is not ready: {why}{events}"
            yield Finding(f"POD_{_upper_snake(pod.trouble)}", text, _pod_remedy(pod.trouble, pod.state), is_wrong=True)
        elif not pod.is_ready and age > _STARTING_SECONDS:
            text = f"{pod.name} is not ready {span(age)} after it was made: it {pod.state}.{events}"
            yield Finding("POD_SLOW_START", text, f"kubectl logs {pod.name}", is_wrong=True)
        elif not pod.is_ready:
            yield Finding("POD_STARTING", f"{pod.name}, {span(age)} old, {pod.state}.{events}")


def _pod_remedy(trouble: str, state: str) -> str:
    if trouble == "Unschedulable":
        if "gpu" in state.lower():
            return "No node has a GPU left: add nodes, or lower the service's maximum to what there is."
        return "No node has room for it: add nodes, or ask for less."
    if trouble in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName"):
        return "Check image.registry, the tag, and imagePullSecrets."
    if trouble in ("CrashLoopBackOff", "Restarted"):
        return "kubectl logs --previous says why it ended."
    if trouble == "NotReady":
        return "kubectl logs says what it waits for; readiness does not depend on load."
    return ""


def _upper_snake(words: str) -> str:
    """ImagePullBackOff as IMAGE_PULL_BACK_OFF."""
    return "".join(f"_{char}" if char.isupper() and index else char for index, char in enumerate(words)).upper()
