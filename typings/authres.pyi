"""authres 1.2.0, as far as it is used: nothing is escaped when it writes, and it raises many things when it reads."""

class BaseAuthenticationResult: ...

class AuthenticationResultProperty:
    type: str
    name: str
    value: str | None
    def __init__(self, type: str, name: str, value: str | None = None, comment: str | None = None) -> None: ...

class AuthenticationResult(BaseAuthenticationResult):
    method: str
    result: str
    properties: list[AuthenticationResultProperty]
    def __init__(
        self,
        method: str,
        version: str | None = None,
        result: str | None = None,
        result_comment: str | None = None,
        reason: str | None = None,
        reason_comment: str | None = None,
        properties: list[AuthenticationResultProperty] | None = None,
    ) -> None: ...

class AuthenticationResultsHeader:
    authserv_id: str
    results: list[BaseAuthenticationResult]
    def __init__(
        self,
        authserv_id: str | None = None,
        authserv_id_comment: str | None = None,
        version: str | None = None,
        version_comment: str | None = None,
        results: list[BaseAuthenticationResult] | None = None,
    ) -> None: ...
    @classmethod
    def parse_value(cls, string: str) -> AuthenticationResultsHeader: ...
    def header_value(self) -> str: ...
