"""A minimal client of the API server; objects are its JSON."""

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration
from urllib3.exceptions import HTTPError

_ANSWER_SECONDS = 15.0
_NOT_FOUND = 404
# An API server that is restarted, or a network that hiccups, is no failure of what we look at.
_ATTEMPTS = 4
_PAUSE_SECONDS = 2.0

Json = dict[str, Any]


class ApiError(Exception):
    """An error answer of the API server; `status` is 0 if it was not reached."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    def __init__(self, context: str | None) -> None:
        configuration = Configuration()
        try:
            config.load_kube_config(None, context, configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise ApiError(f"no cluster: {error}; KUBECONFIG and --context say which one", 0) from error
        self._client = ApiClient(configuration)

    def get(self, path: str, **query: str) -> Json:
        answer: Json = json.loads(self.text(path, query))
        return answer

    def find(self, path: str) -> Json | None:
        """None if it does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def list(self, path: str, **query: str) -> list[Json]:
        items: list[Json] = self.get(path, **query)["items"]
        return items

    def text(
        self,
        path: str,
        query: Mapping[str, str] = MappingProxyType({}),
        *,
        attempts: int = _ATTEMPTS,
        seconds: float = _ANSWER_SECONDS,
    ) -> str:
        for attempt in range(1, attempts + 1):
            try:
                return self._call("GET", path, query, seconds=seconds)
            except ApiError as error:
                if attempt == attempts or 400 <= error.status < 500:
                    raise
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError("the loop above returns or raises")

    def create(self, path: str, body: Json) -> None:
        self._call("POST", path, body=body)

    def patch(self, path: str, body: Json) -> None:
        self._call("PATCH", path, body=body, content_type="application/merge-patch+json")

    def delete(self, path: str, **query: str) -> None:
        """Deletes an object; one that does not exist is no error."""
        try:
            self._call("DELETE", path, query)
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = MappingProxyType({}),
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        seconds: float = _ANSWER_SECONDS,
    ) -> str:
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json, */*", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = self._client.call_api(*request, _request_timeout=seconds)
            answer: bytes = response.read()  # type: ignore[no-untyped-call]
        except ApiException as error:
            raise ApiError(
                f"{method} {path}: {error.status} {error.body or error.reason}", error.status or 0
            ) from error
        except HTTPError as error:
            raise ApiError(f"{method} {path}: {error}", 0) from error
        text = answer.decode(errors="replace")
        if not 200 <= response.status < 300:
            try:
                text = json.loads(text)["message"]
            except (ValueError, LookupError, TypeError):
                text = text[:300]
            raise ApiError(f"{method} {path}: {response.status} {text}", response.status)
        return text
