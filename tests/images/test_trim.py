from images import trim


def environment(tmp_path, *files):
    for file in ["bin/python", "bin/python3", "bin/python3.12", "bin/videoanalysis", *files]:
        path = tmp_path / file.replace("PACKAGES", "lib/python3.12/site-packages")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    (tmp_path / "lib/python3.12/site-packages").mkdir(parents=True, exist_ok=True)
    return tmp_path


def left(environment):
    return {path.relative_to(environment).as_posix() for path in environment.rglob("*") if path.is_file()}


def test_what_no_service_opens_goes(tmp_path):
    made = environment(
        tmp_path,
        "PACKAGES/numpy/lib/tests/test_io.py",
        "PACKAGES/numpy/__init__.pyi",
        "PACKAGES/torch/include/ATen/Tensor.h",
        "PACKAGES/torch/lib/libprotobuf.a",
        "PACKAGES/botocore/data/ec2/2016-11-15/service-2.json.gz",
        "PACKAGES/kubernetes/client/models/v1_pod.py",
        "bin/f2py",
        "bin/activate",
    )
    trim.main(made)
    assert left(made) == {"bin/python", "bin/python3", "bin/python3.12", "bin/videoanalysis"}


def test_what_is_imported_or_read_stays(tmp_path):
    kept = [
        "PACKAGES/numpy/testing/__init__.py",
        "PACKAGES/botocore/data/s3/2006-03-01/service-2.json.gz",
        "PACKAGES/botocore/data/sts/2011-06-15/service-2.json.gz",
        "PACKAGES/botocore/data/endpoints.json",
        "PACKAGES/kubernetes/client/models/__init__.py",
        "PACKAGES/kubernetes/aio/client/models/v1_endpoint_slice.py",
        "PACKAGES/av.libs/libavcodec.so.62",
    ]
    made = environment(tmp_path, *kept)
    before = left(made)
    trim.main(made)
    assert left(made) == before


def test_a_link_goes_and_what_it_points_at_stays(tmp_path):
    made = environment(tmp_path / "venv")
    (tmp_path / "elsewhere").write_bytes(b"1234")
    (made / "bin" / "pip").symlink_to(tmp_path / "elsewhere")
    trim.main(made)
    assert not (made / "bin" / "pip").is_symlink()
    assert (tmp_path / "elsewhere").exists()
