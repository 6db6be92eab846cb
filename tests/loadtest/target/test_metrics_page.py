import pytest

from loadtest.target.metrics_page import MetricsPages
from tests.loadtest.pages import serving

SCALING = """\
# HELP videoanalysis_queue_depth Work.
# TYPE videoanalysis_queue_depth gauge
videoanalysis_queue_depth{service="ingress"} 3
videoanalysis_queue_depth{service="encoder"} 5
videoanalysis_queue_depth{service="decoder"} 0
"""
DCGM = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a",modelName="NVIDIA L4"} 90
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b",modelName="NVIDIA L4"} 50
DCGM_FI_DEV_FB_USED{gpu="0"} 4096
"""


def test_the_queues_of_all_ingresses_are_added_up():
    with serving({"/scaling": SCALING, "/metrics": SCALING + "process_cpu_seconds_total 7\n"}) as pages:
        read = MetricsPages([f"{pages.url}/scaling", f"{pages.url}/metrics"]).read()
    assert read == {"queue.ingress": 6, "queue.encoder": 10, "queue.decoder": 0}


def test_gpu_utilisation_is_the_mean_of_all_gpus():
    with serving({"/metrics": DCGM}) as pages:
        assert MetricsPages([f"{pages.url}/metrics"]).read() == {"gpu_utilisation": 0.7}


def test_a_missing_page_is_named():
    with serving({}) as pages, pytest.raises(OSError, match="/nowhere answers 404"):
        MetricsPages([f"{pages.url}/nowhere"]).read()
    with pytest.raises(OSError, match="does not answer"):
        MetricsPages([f"{pages.url}/scaling"]).read()


def test_a_malformed_page_is_an_error():
    with serving({"/": "<html>{</html>"}) as pages, pytest.raises(ValueError, match=r"."):
        MetricsPages([f"{pages.url}/"]).read()
