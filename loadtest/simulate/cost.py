"""The cost of a simulated load."""

from dataclasses import dataclass

from loadtest.simulate.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Prices:
    """Per hour, in any currency. The defaults are the approximate cloud prices of an L4 and of a core in dollars."""

    gpu: float = 0.80
    core: float = 0.05
    ingress_cores: float = 6
    decoder_cores: float = 1

    def cost(self, outcome: Outcome) -> float:
        seconds = outcome.node_seconds
        cores = seconds["ingress"] * self.ingress_cores + seconds["decoder"] * self.decoder_cores
        return (seconds["encoder"] * self.gpu + cores * self.core) / 3600
