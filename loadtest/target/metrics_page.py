"""Pages in Prometheus' text format: /scaling or /metrics of an ingress, or /metrics of a DCGM exporter."""

import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from loadtest.target.source import GPU, QUEUE

_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 16 << 20
_QUEUE_DEPTH = "videoanalysis_queue_depth"
_GPU_PERCENT = "DCGM_FI_DEV_GPU_UTIL"
# Without the proxy of the environment, which does not serve these addresses.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class MetricsPages:
    """The queue depths summed over all pages, and the mean utilisation of all GPUs."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls

    @property
    def name(self) -> str:
        return ", ".join(self._urls)

    def read(self) -> Mapping[str, float]:
        """Raises OSError if a page cannot be fetched, ValueError if it is malformed."""
        depths: dict[str, float] = defaultdict(float)
        gpus: list[float] = []
        for url in self._urls:
            for family in text_string_to_metric_families(_fetch(url)):
                for sample in family.samples:
                    if sample.name == _QUEUE_DEPTH:
                        depths[f"{QUEUE}.{sample.labels.get('service', '')}"] += sample.value
                    elif sample.name == _GPU_PERCENT:
                        gpus.append(sample.value / 100)
        return {**depths, **({GPU: sum(gpus) / len(gpus)} if gpus else {})}


def _fetch(url: str) -> str:
    try:
        with _opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
            page: bytes = answer.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answers {error.code}") from error
    except urllib.error.URLError as error:
        raise OSError(f"{url} does not answer ({error.reason})") from error
    return page.decode("utf-8", errors="replace")
