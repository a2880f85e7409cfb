"""Why a login or a launch is refused: one code for each reason, shown to people and written to logs."""

from enum import StrEnum
from typing import NamedTuple


class Refusal(StrEnum):
    """The code of a refused login or launch. pages/refusals.py has the words for each."""

    # the login initiation (1EdTech security framework 5.1.1.1)
    ISSUER_MISSING = "issuer_missing"
    LOGIN_HINT_MISSING = "login_hint_missing"
    TARGET_MISSING = "target_missing"
    TARGET_FOREIGN = "target_foreign"
    PARAMETERS_TOO_LONG = "parameters_too_long"
    REGISTRATION_UNKNOWN = "registration_unknown"
    REGISTRATION_AMBIGUOUS = "registration_ambiguous"
    # the platform answered with an error (OpenID Connect core 3.1.2.6)
    PLATFORM_LOGIN_REQUIRED = "platform_login_required"
    PLATFORM_DENIED = "platform_denied"
    PLATFORM_LAUNCH_EXPIRED = "platform_launch_expired"
    PLATFORM_ERROR = "platform_error"
    # state, browser and nonce
    STATE_MISSING = "state_missing"
    STATE_WRONG = "state_wrong"
    STATE_EXPIRED = "state_expired"
    COOKIE_MISSING = "cookie_missing"
    COOKIE_WRONG = "cookie_wrong"
    # platform storage, where the cookie did not come back
    STORAGE_PROOF_MISSING = "storage_proof_missing"
    STORAGE_PROOF_WRONG = "storage_proof_wrong"
    STORAGE_PROOF_LATE = "storage_proof_late"
    STORAGE_PROOF_FOREIGN = "storage_proof_foreign"
    NONCE_MISSING = "nonce_missing"
    NONCE_WRONG = "nonce_wrong"
    NONCE_USED = "nonce_used"
    # the token and its signature (security framework 5.1.3)
    TOKEN_MISSING = "token_missing"  # noqa: S105
    TOKEN_TOO_LARGE = "token_too_large"  # noqa: S105
    TOKEN_MALFORMED = "token_malformed"  # noqa: S105
    ALGORITHM_REFUSED = "algorithm_refused"
    HEADER_UNKNOWN = "header_unknown"
    KEY_ID_MISSING = "key_id_missing"
    KEY_UNKNOWN = "key_unknown"
    KEY_WEAK = "key_weak"
    KEYS_UNAVAILABLE = "keys_unavailable"
    SIGNATURE_WRONG = "signature_wrong"
    EXPIRY_MISSING = "expiry_missing"
    ISSUED_AT_MISSING = "issued_at_missing"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_EARLY = "token_early"  # noqa: S105
    TOKEN_LIVES_TOO_LONG = "token_lives_too_long"  # noqa: S105
    # whose it is
    ISSUER_WRONG = "issuer_wrong"
    AUDIENCE_WRONG = "audience_wrong"
    AUTHORIZED_PARTY_WRONG = "authorized_party_wrong"
    DEPLOYMENT_MISSING = "deployment_missing"
    DEPLOYMENT_WRONG = "deployment_wrong"
    # Nobody here has approved the deployment yet. Said by the product, not by lti/.
    DEPLOYMENT_PENDING = "deployment_pending"
    # the message (LTI 1.3 core, section 5.3)
    MESSAGE_TYPE_MISSING = "message_type_missing"
    MESSAGE_TYPE_UNKNOWN = "message_type_unknown"
    VERSION_WRONG = "version_wrong"
    TARGET_WRONG = "target_wrong"
    SUBJECT_MISSING = "subject_missing"
    SUBJECT_MALFORMED = "subject_malformed"
    ROLES_MALFORMED = "roles_malformed"
    RESOURCE_LINK_MISSING = "resource_link_missing"
    RETURN_URL_MALFORMED = "return_url_malformed"
    CLAIM_MALFORMED = "claim_malformed"
    DEEP_LINKING_UNSUPPORTED = "deep_linking_unsupported"


class Known(NamedTuple):
    """Whose launch was refused: a registration of ours, and the id of a deployment that we know."""

    registration_id: int | None = None
    deployment_id: str = ""


class LaunchRefused(Exception):
    """A login or launch is refused. `detail` is for logs: a claim's name or a reason, never its value."""

    def __init__(
        self,
        code: Refusal,
        detail: str = "",
        *,
        clock_offset: float | None = None,
        known: Known | None = None,
    ) -> None:
        super().__init__(f"{code.value} ({detail})" if detail else code.value)
        self.code = code
        self.detail = detail
        # Seconds by which the platform's clock is ahead of ours, where a signed message shows it.
        self.clock_offset = clock_offset
        self.known = known or Known()
