"""Third-party files are whole, unchanged and named with version and licence."""

import hashlib
from pathlib import Path

VENDOR = Path(__file__).parent.parent / "lti_tool" / "static" / "vendor"


def test_third_party_files_are_unchanged_and_listed() -> None:
    listed = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    there = {path.name for path in VENDOR.iterdir()} - {"SHA256SUMS", "README.md"}
    assert there == set(listed)
    for name, checksum in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == checksum, name


def test_every_library_is_named_with_version_and_licence() -> None:
    readme = (VENDOR / "README.md").read_text()
    for licence in VENDOR.glob("LICENSE-*"):
        assert licence.name in readme
