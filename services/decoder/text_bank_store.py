"""Keeps the text banks in memory, and refreshes them from the files at one location."""

import asyncio
from collections import deque
from collections.abc import Collection

import structlog

from services.decoder.text_bank_location import Location, Version
from videoanalysis.errors import FailedPrecondition, NotFound, ServiceError, Unavailable
from videoanalysis.limits import MAX_TEXT_BANKS
from videoanalysis.logs import causes
from videoanalysis.text_bank.format import InvalidTextBank, TextBank
from videoanalysis.v1.error_reason_pb2 import ErrorReason

# Each may take gigabytes of memory.
_MAX_REPLACED_BANKS = 2

_log = structlog.get_logger()


class TextBankStore:
    """Banks by name and model. A file that is invalid does not replace the bank loaded from its predecessor."""

    def __init__(self, location: Location | None, max_bank_bytes: int, expected: Collection[str] = ()) -> None:
        self._location = location
        self.expected = expected
        """Names of banks that are to come: until they are loaded, requests for them may be repeated."""
        self.is_complete = location is None
        """Whether every file at the location has been read."""
        self._max_bank_bytes = max_bank_bytes
        self._banks: dict[str, TextBank] = {}
        # Videos in progress continue with the bank with which they began.
        self._replaced: deque[TextBank] = deque(maxlen=_MAX_REPLACED_BANKS)
        # Version of each file that is loaded, or rejected as invalid, by address.
        self._read_versions: dict[str, Version] = {}
        # Last warning by address, "" for the location itself.
        self._warnings: dict[str, str] = {}
        self.refreshed = asyncio.Event()

    @property
    def has_location(self) -> bool:
        return self._location is not None

    def banks(self) -> list[TextBank]:
        """The banks in use: of several with the same name and model the newest, by name and model."""
        oldest_first = sorted(self._banks.items(), key=lambda item: (item[1].created_at, item[0]))
        by_key = {(bank.name, bank.model_digest): bank for _, bank in oldest_first}
        return [by_key[key] for key in sorted(by_key)]

    def lookup(self, name: str, model_digest: str, digest: str = "") -> TextBank:
        """The newest version, or that of `digest`, which may have been replaced recently.

        Raises NotFound if there is no bank `name`, Unavailable if it may still come, FailedPrecondition if there is one
        of other models or versions.
        """
        if digest:
            return self._version(name, model_digest, digest)
        banks = self.banks()
        of_name = {bank.model_digest: bank for bank in banks if bank.name == name}
        if model_digest in of_name:
            return of_name[model_digest]
        if of_name:
            raise FailedPrecondition(
                f"text bank {name!r} is of model {', '.join(of_name)}, the embeddings are of {model_digest}",
                reason=ErrorReason.BANK_MODEL_MISMATCH,
            )
        loaded = ", ".join(sorted({bank.name for bank in banks})) or "none"
        if name in self.expected or not self.is_complete:
            raise Unavailable(f"text bank {name!r} is not loaded; loaded: {loaded}", reason=ErrorReason.BANK_NOT_READY)
        raise NotFound(
            f"there is no text bank {name!r}; loaded: {loaded}",
            reason=ErrorReason.TEXT_BANK_NOT_FOUND,
            field="ranking.text_bank",
        )

    def _version(self, name: str, model_digest: str, digest: str) -> TextBank:
        for bank in (*self._banks.values(), *self._replaced):
            if (bank.name, bank.model_digest, bank.digest) == (name, model_digest, digest):
                return bank
        raise FailedPrecondition(
            f"text bank {name!r}: version {digest} is not loaded", reason=ErrorReason.TEXT_BANK_REPLACED
        )

    async def refresh_forever(self, interval_seconds: float) -> None:
        """Refresh until cancelled; no error of the location ends it."""
        while True:
            try:
                await self.refresh()
            except Exception as error:
                _log.error("bug", exc_info=error)
            self.refreshed.set()
            await asyncio.sleep(interval_seconds)

    async def refresh(self) -> None:
        """Load new and changed files, drop removed ones."""
        if self._location is None:
            return
        try:
            versions = await self._location.versions()
        except (OSError, ServiceError) as error:
            self._warn("", f"the location of the banks is unavailable: {error}", error)
            return
        self._warnings.pop("", None)
        for address in self._read_versions.keys() - versions.keys():
            self._remove(address)
        for address, version in versions.items():
            if len(self._banks) >= MAX_TEXT_BANKS and address not in self._banks:
                self._warn(address, f"not read: more than {MAX_TEXT_BANKS} text banks")
            elif self._read_versions.get(address) != version:
                await self._load(self._location, address, version)
        self.is_complete = self._read_versions == versions

    async def _load(self, location: Location, address: str, version: Version) -> None:
        try:
            if version.size > self._max_bank_bytes:
                raise InvalidTextBank(f"{version.size} bytes, at most {self._max_bank_bytes} are allowed")
            data = await location.read(address, self._max_bank_bytes)
            bank = await asyncio.to_thread(TextBank.from_bytes, data)
        except InvalidTextBank as error:
            # The same bytes stay invalid: not read again until they change.
            self._read_versions[address] = version
            self._warn(address, f"rejected: {error}")
        except (OSError, ServiceError) as error:
            self._warn(address, f"cannot be read: {error}", error)
        else:
            self._read_versions[address] = version
            self._retire(address)
            self._banks[address] = bank
            self._warnings.pop(address, None)
            _log.info("text bank loaded", address=address, name=bank.name, digest=bank.digest, model=bank.model_digest)

    def _remove(self, address: str) -> None:
        del self._read_versions[address]
        self._warnings.pop(address, None)
        if self._retire(address):
            _log.info("text bank removed", address=address)

    def _retire(self, address: str) -> bool:
        if (bank := self._banks.pop(address, None)) is None:
            return False
        self._replaced.append(bank)
        return True

    def _warn(self, address: str, problem: str, error: Exception | None = None) -> None:
        """Log a problem once, not at every refresh."""
        if self._warnings.get(address) != problem:
            self._warnings[address] = problem
            facts: dict[str, object] = {"causes": causes(error)} if error is not None else {}
            if isinstance(error, ServiceError):
                facts["details"] = error.details
            _log.warning("text bank problem", address=address, problem=problem, kept=address in self._banks, **facts)
