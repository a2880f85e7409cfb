"""A wheel carries templates, settings, migrations and static files, and renders a page."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_an_installed_wheel_renders_a_page(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    home = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    program = (
        "from lti_tool import create_app, settings\n"
        f"assert str(settings.HOME).startswith({str(home)!r}), settings.HOME\n"
        f"app = create_app(SECRET_KEY='x' * 40, DATABASE_URL='sqlite:///{tmp_path}/a.sqlite',"
        f" QUEUE_FILE='{tmp_path}/q')\n"
        "assert app.test_client().get('/static/doorlist.css').status_code == 200\n"
        "from flask_migrate import upgrade\n"
        "with app.app_context():\n"
        "    upgrade(directory=str(settings.PACKAGE / 'migrations'))\n"
        "assert app.test_client().get('/health/ready').status_code == 200\n"
        "assert 'Sign in' in app.test_client().get('/sign-in').text\n"
        "print('rendered')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(home)!r})\n{program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == "rendered", ran.stderr
