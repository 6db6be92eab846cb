"""JSON Web Tokens (JWT): signature, issuer, audience and expiry are checked; the caller comes out."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

from joserfc import jwt
from joserfc.errors import (
    BadSignatureError,
    ExpiredTokenError,
    InvalidClaimError,
    InvalidKeyIdError,
    JoseError,
    MissingClaimError,
)

from services.ingress.admission.issuer_keys import IssuerKeys
from videoanalysis.errors import Unauthenticated

MAX_CALLER_CHARACTERS = 200


class WebTokens:
    """Accepts tokens of `issuer` for `audience`, signed with one of `keys` by one of `algorithms`.

    `algorithms` are of public keys alone. Clocks may differ by `clock_skew_seconds`. The caller is the claim
    `caller_claim`.
    """

    def __init__(
        self,
        keys: IssuerKeys,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        caller_claim: str = "sub",
        clock_skew_seconds: float = 30,
    ) -> None:
        self._keys = keys
        self._algorithms = list(algorithms)
        self._caller_claim = caller_claim
        self._claims = jwt.JWTClaimsRegistry(
            leeway=round(clock_skew_seconds),
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    async def caller(self, token: str) -> str:
        """Raises Unauthenticated, or Unavailable if there are no keys yet."""
        keys = await self._keys.get(_key_id(token))
        try:
            claims = jwt.decode(token, keys, algorithms=self._algorithms).claims
            self._claims.validate(claims)
        except ExpiredTokenError as error:
            raise Unauthenticated("the token has expired; get a new one") from error
        except (InvalidClaimError, MissingClaimError) as error:
            raise Unauthenticated(f"the token's claim {error.claim!r} is missing or not the expected one") from error
        except InvalidKeyIdError as error:
            raise Unauthenticated("the token is signed with a key that its issuer does not publish") from error
        except BadSignatureError as error:
            raise Unauthenticated("the token's signature is not valid") from error
        except (JoseError, ValueError) as error:
            raise Unauthenticated("the token is malformed or signed in a way that is not accepted") from error
        caller = claims.get(self._caller_claim)
        if not isinstance(caller, str) or not 0 < len(caller) <= MAX_CALLER_CHARACTERS or not caller.isprintable():
            raise Unauthenticated(f"the token's claim {self._caller_claim!r} does not name a caller")
        return caller


def _key_id(token: str) -> str | None:
    """The key id in the header, which is not verified yet: used only to decide whether to fetch keys."""
    encoded = token.partition(".")[0]
    try:
        header: Any = json.loads(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        key_id = header["kid"]
    except (ValueError, KeyError, TypeError):
        return None
    return key_id if isinstance(key_id, str) else None
