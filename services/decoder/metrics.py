"""What the decoder tells Prometheus beside its calls."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

from services.decoder.text_bank_store import TextBankStore
from videoanalysis import metrics


def follow(shelf: TextBankStore, slots: int) -> None:
    """Show the banks of `shelf`; it is asked whenever Prometheus asks. Calls wait for no slot: those that run share."""
    metrics.RUNNING.labels("decoder")
    metrics.SLOTS.labels("decoder").set(slots)
    REGISTRY.register(_TextBanks(shelf))


class _TextBanks(Collector):
    def __init__(self, shelf: TextBankStore) -> None:
        self._shelf = shelf

    def collect(self) -> Iterator[InfoMetricFamily]:
        family = InfoMetricFamily("videoanalysis_text_bank", "Text banks in use.")
        for bank in self._shelf.banks():
            family.add_metric([], {"name": bank.name, "digest": bank.digest, "model_digest": bank.model_digest})
        yield family
