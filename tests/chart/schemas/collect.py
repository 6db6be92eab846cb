"""Generates the schemas in this directory from the publications of each project; needs git, Go and the network.

    python tests/chart/schemas/collect.py

README.md says what comes from where. Left out is what validation does not need: descriptions, and kinds that the chart
does not have. Added is that unknown fields are errors, as they are to the API server in strict mode.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
KUBERNETES = ["1.31.14", "1.32.10", "1.33.6", "1.34.2", "1.35.0"]
BUILT_IN = {
    "apps/v1/Deployment",
    "autoscaling/v2/HorizontalPodAutoscaler",
    "batch/v1/Job",
    "networking.k8s.io/v1/NetworkPolicy",
    "policy/v1/PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1/Role",
    "rbac.authorization.k8s.io/v1/RoleBinding",
    "v1/ConfigMap",
    "v1/PersistentVolumeClaim",
    "v1/Pod",
    "v1/Secret",
    "v1/Service",
    "v1/ServiceAccount",
}
KEDA = "github.com/kedacore/keda/v2@v2.20.2"
CERT_MANAGER = "github.com/cert-manager/cert-manager@v1.18.2"
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.4.0"
PROMETHEUS_OPERATOR = ("https://github.com/prometheus-operator/prometheus-operator", "v0.93.0")

_REFERENCE = "#/definitions/"


def main() -> None:
    for version in KUBERNETES:
        swagger = json.loads((go_module(f"k8s.io/kubernetes@v{version}") / "api/openapi-spec/swagger.json").read_text())
        write(f"kubernetes-{version.rpartition('.')[0]}.json", built_in(swagger["definitions"]))
    write(
        "custom.json",
        custom([go_module(KEDA) / "config/crd/bases/keda.sh_scaledobjects.yaml"])
        | custom([go_module(GATEWAY_API) / "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml"])
        | prometheus_operator()
        | custom([go_module(CERT_MANAGER) / "deploy/crds/crd-certificates.yaml"]),
    )


def go_module(module: str) -> Path:
    downloaded = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=True)
    return Path(json.loads(downloaded.stdout)["Dir"])


def prometheus_operator() -> dict[str, Any]:
    url, tag = PROMETHEUS_OPERATOR
    with tempfile.TemporaryDirectory() as directory:
        clone = ["git", "clone", "--quiet", "--depth=1", f"--branch={tag}", url, directory]
        subprocess.run(clone, check=True)
        definitions = Path(directory, "example/prometheus-operator-crd")
        kinds = ("podmonitors", "prometheusrules", "servicemonitors")
        return custom([definitions / f"monitoring.coreos.com_{kind}.yaml" for kind in kinds])


def built_in(definitions: dict[str, Any]) -> dict[str, Any]:
    """The definitions of the built-in kinds and of all they refer to, and a reference for each kind."""
    kinds = {}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            full_name = "/".join(filter(None, (kind["group"], kind["version"], kind["kind"])))
            if full_name in BUILT_IN and name.endswith(f".{kind['kind']}"):
                kinds[full_name] = {"$ref": _REFERENCE + name}
    assert kinds.keys() == BUILT_IN, BUILT_IN - kinds.keys()
    needed: dict[str, Any] = {}
    names = [reference["$ref"].removeprefix(_REFERENCE) for reference in kinds.values()]
    while names:
        name = names.pop()
        if name not in needed:
            needed[name] = strict(definitions[name])
            names += [reference.removeprefix(_REFERENCE) for reference in references(needed[name])]
    return {**dict(sorted(kinds.items())), "definitions": dict(sorted(needed.items()))}


def custom(files: list[Path]) -> dict[str, Any]:
    """The schema of each kind that the CustomResourceDefinitions define."""
    schemas = {}
    for file in files:
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{spec['group']}/{version['name']}/{spec['names']['kind']}"] = schema
    return schemas


def strict(schema: Any) -> Any:
    """The JSON Schema of an OpenAPI one: without prose, with unknown fields as errors."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Quantities and ports may be written as numbers.
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "quantity" in schema.get("description", "").lower().split("\n")[0] and schema.get("type") == "string":
        return {"type": ["number", "string"]}
    dropped = {"description", "default", "format", "example"}
    kept = {
        key: {name: strict(property) for name, property in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
        if key not in dropped and not key.startswith("x-")
    }
    if "properties" in kept and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    return kept


def references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [reference for item in schema for reference in references(item)]
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [reference for value in schema.values() for reference in references(value)]
    return []


def write(name: str, schemas: dict[str, Any]) -> None:
    """A line for each definition, so that what a new version changes can be read."""

    def lines(mapping: dict[str, Any]) -> str:
        items = (f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in mapping.items())
        return "{\n" + ",\n".join(items) + "\n}"

    definitions = schemas.pop("definitions", None)
    text = lines(schemas)
    if definitions is not None:
        text = f'{text[:-2]},\n"definitions":{lines(definitions)}\n}}'
    (HERE / name).write_text(text + "\n")


if __name__ == "__main__":
    main()
