import numpy as np
import pytest

from tests.decoder.samples import MODEL, unit_rows
from tests.text_bank.results import BIAS, SCALE, result, write
from videoanalysis.scores import Calibration
from videoanalysis.text_bank.stored_scenes import InvalidResult, read_result, read_results
from videoanalysis.v1.analysis_pb2 import AnalyzeVideoResponse, Scene


def test_a_scene_is_the_normalised_mean_of_its_frames(tmp_path):
    frames = unit_rows(10)
    found = read_result(write(tmp_path / "a.json", result(frames, cuts=[3, 8])))
    assert (found.name, found.model_digest, found.calibration) == ("a.json", MODEL, Calibration(SCALE, BIAS))
    assert (list(found.starts), list(found.ends)) == ([0, 2.5, 7.5], [2.5, 7.5, 10])
    for row, of_scene in zip(found.embeddings, np.split(frames, [3, 8]), strict=True):
        mean = of_scene.mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=2e-3)


def test_a_scene_without_frames_is_left_out(tmp_path):
    message = result(unit_rows(4), cuts=[2])
    message.scenes.insert(1, Scene(start_seconds=1.5, end_seconds=1.5))
    found = read_result(write(tmp_path / "a.json", message))
    assert (list(found.starts), list(found.ends)) == ([0, 1.5], [1.5, 4])


def test_a_directory_stands_for_its_json_files(tmp_path):
    for name in ("b.json", "a.json"):
        write(tmp_path / name, result(unit_rows(4)))
    (tmp_path / "notes.txt").write_text("none")
    assert [found.name for found in read_results([tmp_path, tmp_path / "a.json"])] == ["a.json", "b.json", "a.json"]


def without_embeddings(message: AnalyzeVideoResponse) -> None:
    message.chunks[0].ClearField("embeddings")


def with_a_time_too_few(message: AnalyzeVideoResponse) -> None:
    message.chunks[0].frame_times_seconds.pop()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (without_embeddings, "has no embeddings; analyse the video with include_embeddings"),
        (lambda message: message.ClearField("chunks"), "has no embeddings"),
        (lambda message: message.ClearField("model"), "does not name its model"),
        (with_a_time_too_few, "3 frame times for embeddings"),
        (lambda message: setattr(message.chunks[0].embeddings, "data", b"xyz"), "embeddings"),
    ],
)
def test_a_result_without_usable_embeddings_is_named(tmp_path, spoil, problem):
    message = result(unit_rows(4))
    spoil(message)
    with pytest.raises(InvalidResult, match=f"a.json: .*{problem}"):
        read_result(write(tmp_path / "a.json", message))


def test_a_file_that_is_no_result_is_named(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2")
    with pytest.raises(InvalidResult, match=r"a\.json: cannot be read as the JSON of a result"):
        read_result(tmp_path / "a.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidResult, match=r"no \.json file in"):
        read_results([tmp_path / "empty"])
