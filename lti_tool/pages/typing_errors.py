"""Addresses that were most likely mistyped: only domains that nobody has mail at, never a guess."""

# Slips of well-known mail providers.
_SLIPS = {
    "gmail.com": "gmial.com gamil.com gmal.com gmai.com gnail.com gmaill.com gmali.com gmil.com gmail.cm",
    "googlemail.com": "googelmail.com googlemial.com gogglemail.com",
    "hotmail.com": "hotmial.com hotmal.com hotmil.com hotmai.com hotmaill.com htomail.com hotmail.cm",
    "outlook.com": "outlok.com outllook.com outloook.com outlock.com outlook.cm",
    "yahoo.com": "yahooo.com yaoo.com yhaoo.com yahho.com yahoo.cm",
    "icloud.com": "iclould.com iclod.com icoud.com iclud.com",
}
_MENDED = {slip: domain for domain, slips in _SLIPS.items() for slip in slips.split()}


def mended(address: str) -> str:
    """The address as it was probably meant; empty if nothing looks wrong with it."""
    local, _, domain = address.strip().rpartition("@")
    domain = domain.lower().rstrip(".")
    if not local or not domain:
        return ""
    # There is no .con in the world.
    meant = f"{domain[:-1]}m" if domain.endswith(".con") else domain
    meant = _MENDED.get(meant, meant)
    return f"{local}@{meant}" if meant != domain else ""
