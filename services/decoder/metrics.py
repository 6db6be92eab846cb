"""Prometheus metrics of the decoder alone."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import InfoMetricFamily
from prometheus_client.registry import Collector

from services.decoder.text_bank_store import TextBankStore
from videoanalysis import metrics


def register(text_banks: TextBankStore, slots: int) -> None:
    """Publish the banks of `text_banks`, read at every scrape. Calls wait for no slot: running ones share the CPU."""
    metrics.RUNNING.labels("decoder")
    metrics.SLOTS.labels("decoder").set(slots)
    REGISTRY.register(_TextBankCollector(text_banks))


class _TextBankCollector(Collector):
    def __init__(self, text_banks: TextBankStore) -> None:
        self._text_banks = text_banks

    def collect(self) -> Iterator[InfoMetricFamily]:
        family = InfoMetricFamily("videoanalysis_text_bank", "Text banks in use.")
        for bank in self._text_banks.banks():
            family.add_metric([], {"name": bank.name, "digest": bank.digest, "model_digest": bank.model_digest})
        yield family
